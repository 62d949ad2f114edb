// A handler in JavaScript, by the events of service workers, which its toolchain makes wasi:http of.

// Kept by an instance from one request to the next.
let seen = 0;

async function answer(request) {
  const { pathname, searchParams } = new URL(request.url);
  switch (pathname) {
    case '/':
      return new Response(`hello, ${searchParams.get('name') ?? 'world'}\n`);
    case '/seen':
      return new Response(String(++seen));
    case '/echo':
      return new Response(await request.text(), { headers: { 'content-type': request.headers.get('content-type') } });
    case '/throw':
      throw new Error('thrown on purpose');
    default:
      return new Response('not found\n', { status: 404 });
  }
}

addEventListener('fetch', (event) => event.respondWith(answer(event.request)));

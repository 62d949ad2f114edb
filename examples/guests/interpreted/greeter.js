// A guest in JavaScript. An exception becomes the error of a `result`.

export function greet(name) {
  return `hello, ${name}`;
}

export function introduce({ name, languages, age }) {
  if (name === '') throw 'a card without a name';
  const who = age === undefined ? name : `${name}, ${age}`;
  return `${who}: ${languages.join(', ')}`;
}

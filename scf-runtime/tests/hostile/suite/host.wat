;; What WASI a hostile guest imports, and the host's functions as core functions in an instance $host.
  (import "wasi:io/error@0.2.0" (instance $error (export "error" (type (sub resource)))))
  (alias export $error "error" (type $io-error))
  (import "wasi:io/poll@0.2.0" (instance $poll
    (export "pollable" (type $pollable (sub resource)))
    (export "[method]pollable.block" (func (param "self" (borrow $pollable))))
    (export "[method]pollable.ready" (func (param "self" (borrow $pollable)) (result bool)))
    (export "poll" (func (param "in" (list (borrow $pollable))) (result (list u32))))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (alias outer 1 $io-error (type $outer-error))
    (export "error" (type $error (eq $outer-error)))
    (alias outer 1 $pollable (type $outer-pollable))
    (export "pollable" (type $pollable (eq $outer-pollable)))
    (export "output-stream" (type $output (sub resource)))
    (export "input-stream" (type $input (sub resource)))
    (type $failure (variant (case "last-operation-failed" (own $error)) (case "closed")))
    (export "stream-error" (type $stream-error (eq $failure)))
    (export "[method]output-stream.check-write"
      (func (param "self" (borrow $output)) (result (result u64 (error $stream-error)))))
    (export "[method]output-stream.write"
      (func (param "self" (borrow $output)) (param "contents" (list u8)) (result (result (error $stream-error)))))
    (export "[method]output-stream.blocking-write-and-flush"
      (func (param "self" (borrow $output)) (param "contents" (list u8)) (result (result (error $stream-error)))))
    (export "[method]output-stream.blocking-write-zeroes-and-flush"
      (func (param "self" (borrow $output)) (param "len" u64) (result (result (error $stream-error)))))
    (export "[method]output-stream.blocking-splice"
      (func (param "self" (borrow $output)) (param "src" (borrow $input)) (param "len" u64)
        (result (result u64 (error $stream-error)))))
    (export "[method]output-stream.subscribe" (func (param "self" (borrow $output)) (result (own $pollable))))
    (export "[method]input-stream.blocking-read"
      (func (param "self" (borrow $input)) (param "len" u64) (result (result (list u8) (error $stream-error)))))
    (export "[method]input-stream.subscribe" (func (param "self" (borrow $input)) (result (own $pollable))))))
  (alias export $streams "output-stream" (type $output))
  (alias export $streams "input-stream" (type $input))
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
    (alias outer 1 $pollable (type $outer-pollable))
    (export "pollable" (type $pollable (eq $outer-pollable)))
    (export "now" (func (result u64)))
    (export "subscribe-duration" (func (param "when" u64) (result (own $pollable))))
    (export "subscribe-instant" (func (param "when" u64) (result (own $pollable))))))
  (import "wasi:random/random@0.2.0" (instance $random
    (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))
  (import "wasi:random/insecure@0.2.0" (instance $insecure
    (export "get-insecure-random-bytes" (func (param "len" u64) (result (list u8))))))
  (import "wasi:cli/environment@0.2.0" (instance $environment
    (export "get-environment" (func (result (list (tuple string string)))))
    (export "get-arguments" (func (result (list string))))))
  (import "wasi:cli/exit@0.2.0" (instance $exit (export "exit" (func (param "status" (result))))))
  (import "wasi:cli/stdin@0.2.0" (instance $stdin
    (alias outer 1 $input (type $outer-input))
    (export "input-stream" (type $input (eq $outer-input)))
    (export "get-stdin" (func (result (own $input))))))
  (import "wasi:cli/stdout@0.2.0" (instance $stdout
    (alias outer 1 $output (type $outer-output))
    (export "output-stream" (type $output (eq $outer-output)))
    (export "get-stdout" (func (result (own $output))))))
  (import "wasi:filesystem/types@0.2.0" (instance $files (export "descriptor" (type (sub resource)))))
  (alias export $files "descriptor" (type $descriptor))
  (import "wasi:filesystem/preopens@0.2.0" (instance $preopens
    (alias outer 1 $descriptor (type $outer-descriptor))
    (export "descriptor" (type $descriptor (eq $outer-descriptor)))
    (export "get-directories" (func (result (list (tuple (own $descriptor) string)))))))

  (core func $now (canon lower (func $clock "now")))
  (core func $after (canon lower (func $clock "subscribe-duration")))
  (core func $at (canon lower (func $clock "subscribe-instant")))
  (core func $block (canon lower (func $poll "[method]pollable.block")))
  (core func $ready (canon lower (func $poll "[method]pollable.ready")))
  (core func $poll (canon lower (func $poll "poll") (memory $memory) (realloc $realloc)))
  (core func $forget (canon resource.drop $pollable))
  (core func $close (canon resource.drop $output))
  (core func $check-write (canon lower (func $streams "[method]output-stream.check-write") (memory $memory)))
  (core func $write (canon lower (func $streams "[method]output-stream.write") (memory $memory)))
  (core func $print
    (canon lower (func $streams "[method]output-stream.blocking-write-and-flush") (memory $memory)))
  (core func $zeroes
    (canon lower (func $streams "[method]output-stream.blocking-write-zeroes-and-flush") (memory $memory)))
  (core func $splice (canon lower (func $streams "[method]output-stream.blocking-splice") (memory $memory)))
  (core func $writable (canon lower (func $streams "[method]output-stream.subscribe")))
  (core func $read
    (canon lower (func $streams "[method]input-stream.blocking-read") (memory $memory) (realloc $realloc)))
  (core func $readable (canon lower (func $streams "[method]input-stream.subscribe")))
  (core func $random (canon lower (func $random "get-random-bytes") (memory $memory) (realloc $realloc)))
  (core func $insecure
    (canon lower (func $insecure "get-insecure-random-bytes") (memory $memory) (realloc $realloc)))
  (core func $environment
    (canon lower (func $environment "get-environment") (memory $memory) (realloc $realloc)))
  (core func $arguments (canon lower (func $environment "get-arguments") (memory $memory) (realloc $realloc)))
  (core func $exit (canon lower (func $exit "exit")))
  (core func $stdin (canon lower (func $stdin "get-stdin")))
  (core func $stdout (canon lower (func $stdout "get-stdout")))
  (core func $folders (canon lower (func $preopens "get-directories") (memory $memory) (realloc $realloc)))
  (core instance $host
    (export "now" (func $now)) (export "after" (func $after)) (export "at" (func $at)) (export "block" (func $block))
    (export "ready" (func $ready)) (export "poll" (func $poll)) (export "forget" (func $forget))
    (export "close" (func $close)) (export "check-write" (func $check-write)) (export "write" (func $write))
    (export "print" (func $print)) (export "zeroes" (func $zeroes)) (export "splice" (func $splice))
    (export "writable" (func $writable)) (export "read" (func $read)) (export "readable" (func $readable))
    (export "random" (func $random)) (export "insecure" (func $insecure))
    (export "environment" (func $environment)) (export "arguments" (func $arguments)) (export "exit" (func $exit))
    (export "stdin" (func $stdin)) (export "stdout" (func $stdout)) (export "folders" (func $folders)))

//! Tries what it is told to, for tests of what a guest is granted of WASI.
//!
//! | command | answers |
//! |---|---|
//! | `clock` | monotonic and wall clock in nanoseconds, read before and after a second of work by no clock |
//! | `resolution` | those of both clocks in nanoseconds |
//! | `random N` | N random bytes, then insecure ones and the seed, in hexadecimal |
//! | `env` | the environment |
//! | `preopens` | the folders |
//! | `read P`, `list P`, `write P T`, `append P T` | the content, or what became of it |
//! | `truncate P` | opens for reading and truncates |
//! | `rename P Q`, `link P Q`, `symlink P Q`, `remove P`, `mkdir P` | what became of it |
//! | `fill P N` | writes N bytes |
//! | `hold P N` | the same, then removes the file and keeps it open for ever |
//! | `size P N`, `at P N T` | makes it N bytes long, writes at byte N |
//! | `files P N`, `folders P N` | how many could be made of N files, of N folders in each other, and why no more |
//! | `open P N` | opens it N times at once |
//! | `tcp`, `udp`, `resolve H` | whether there is a network |

use std::{
    fmt::Write as _,
    fs::{self, OpenOptions},
    hint::black_box,
    io::{self, Seek as _, SeekFrom, Write as _},
    mem,
};

use wasip2::{
    clocks::{monotonic_clock, wall_clock},
    filesystem::{
        preopens,
        types::{DescriptorFlags, OpenFlags, PathFlags},
    },
    random::{insecure, insecure_seed, random},
    sockets::{instance_network, ip_name_lookup, network::IpAddressFamily, tcp_create_socket, udp_create_socket},
};

mod bindings {
    wit_bindgen::generate!({ path: "wit", world: "probe" });
}

struct Probe;

impl bindings::Guest for Probe {
    fn run(input: Vec<u8>) -> Result<Vec<u8>, String> {
        let input = str::from_utf8(&input).map_err(|error| error.to_string())?;
        let mut answers = String::new();
        for line in input.lines() {
            let answer = match answer(line) {
                Ok(answer) => answer,
                Err(error) => format!("error {error}"),
            };
            answers.push_str(&answer);
            answers.push('\n');
        }
        Ok(answers.into_bytes())
    }
}

fn answer(line: &str) -> Result<String, String> {
    let words: Vec<&str> = line.splitn(3, ' ').collect();
    let io = |result: std::io::Result<()>| result.map(|()| "done".to_owned()).map_err(|e| format!("{:?}", e.kind()));
    match words[..] {
        ["clock"] => {
            let read = || (monotonic_clock::now(), wall_clock::now());
            let (mono, wall) = read();
            for step in 0..3_000_000_u64 {
                black_box(step);
            }
            let (mono_after, wall_after) = read();
            let nanos = |t: wall_clock::Datetime| u128::from(t.seconds) * 1_000_000_000 + u128::from(t.nanoseconds);
            Ok(format!("{mono} {mono_after} {} {}", nanos(wall), nanos(wall_after)))
        }
        ["resolution"] => {
            Ok(format!("{} {}", monotonic_clock::resolution(), wall_clock::resolution().nanoseconds))
        }
        ["random", count] => {
            let count = count.parse().map_err(|_| "count")?;
            let (low, high) = insecure_seed::insecure_seed();
            let bytes = hex(&random::get_random_bytes(count));
            Ok(format!("{bytes} {} {low:016x}{high:016x}", hex(&insecure::get_insecure_random_bytes(count))))
        }
        ["env"] => Ok(std::env::vars().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")),
        ["preopens"] => {
            Ok(preopens::get_directories().into_iter().map(|(_, path)| path).collect::<Vec<_>>().join(" "))
        }
        ["read", path] => fs::read_to_string(path).map_err(|e| format!("{:?}", e.kind())),
        ["list", path] => {
            let entries = fs::read_dir(path).map_err(|e| format!("{:?}", e.kind()))?;
            let mut names: Vec<_> = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            Ok(names.join(" "))
        }
        ["write", path, text] => io(fs::write(path, text)),
        ["append", path, text] => {
            io(OpenOptions::new().append(true).open(path).and_then(|mut file| file.write_all(text.as_bytes())))
        }
        ["truncate", path] => {
            let (folder, _) = preopens::get_directories().into_iter().next().ok_or("no folder")?;
            let opened = folder.open_at(PathFlags::empty(), path, OpenFlags::TRUNCATE, DescriptorFlags::READ);
            opened.map(|_| "done".into()).map_err(|error| error.name().into())
        }
        ["rename", from, to] => io(fs::rename(from, to)),
        ["link", from, to] => io(fs::hard_link(from, to)),
        ["symlink", from, to] => {
            let (folder, _) = preopens::get_directories().into_iter().next().ok_or("no folder")?;
            folder.symlink_at(from, to).map(|()| "done".into()).map_err(|error| error.name().into())
        }
        ["remove", path] => io(fs::remove_file(path)),
        ["mkdir", path] => io(fs::create_dir(path)),
        ["fill", path, size] => io(fill(path, number(size)?).map(drop)),
        ["hold", path, size] => io(fill(path, number(size)?).and_then(|file| {
            mem::forget(file);
            fs::remove_file(path)
        })),
        ["size", path, size] => {
            let size = number(size)?;
            io(OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(size)))
        }
        ["at", path, rest] => {
            let (offset, text) = rest.split_once(' ').ok_or("text")?;
            let offset = SeekFrom::Start(number(offset)?);
            let opened = OpenOptions::new().write(true).open(path);
            io(opened.and_then(|mut file| file.seek(offset).and_then(|_| file.write_all(text.as_bytes()))))
        }
        ["files", path, count] => Ok(as_many(number(count)?, |at| fs::write(format!("{path}{at}"), ""))),
        ["folders", path, count] => {
            let mut path = path.to_owned();
            Ok(as_many(number(count)?, |_| {
                path.push_str("/d");
                fs::create_dir(&path)
            }))
        }
        ["open", path, count] => {
            let opened: io::Result<Vec<_>> = (0..number(count)?).map(|_| fs::File::open(path)).collect();
            io(opened.map(drop))
        }
        ["tcp"] => {
            let socket = tcp_create_socket::create_tcp_socket(IpAddressFamily::Ipv4);
            socket.map(|_| "done".into()).map_err(|error| error.name().into())
        }
        ["udp"] => {
            let socket = udp_create_socket::create_udp_socket(IpAddressFamily::Ipv4);
            socket.map(|_| "done".into()).map_err(|error| error.name().into())
        }
        ["resolve", host] => {
            let network = instance_network::instance_network();
            let stream = ip_name_lookup::resolve_addresses(&network, host).map_err(|error| error.name())?;
            stream.subscribe().block();
            stream.resolve_next_address().map(|_| "done".into()).map_err(|error| error.name().into())
        }
        _ => Err("unknown command".into()),
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text} is no number"))
}

/// A new file of `size` bytes.
fn fill(path: &str, size: u64) -> io::Result<fs::File> {
    let mut file = fs::File::create(path)?;
    let piece = [b'x'; 64 << 10];
    let mut left = size;
    while left > 0 {
        let length = left.min(piece.len() as u64);
        file.write_all(&piece[..length as usize])?;
        left -= length;
    }
    Ok(file)
}

/// How often `make` could be done, at most `count` times, and why no more often.
fn as_many(count: u64, mut make: impl FnMut(u64) -> io::Result<()>) -> String {
    for at in 0..count {
        if let Err(error) = make(at) {
            return format!("{at} {:?}", error.kind());
        }
    }
    count.to_string()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

bindings::export!(Probe with_types_in bindings);

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
//! | `tcp`, `udp`, `resolve H` | whether there is a network |

use std::{
    fmt::Write as _,
    fs::{self, OpenOptions},
    hint::black_box,
    io::Write as _,
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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

bindings::export!(Probe with_types_in bindings);

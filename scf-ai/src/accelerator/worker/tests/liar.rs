//! Programs that speak as workers do and lie.

use std::{io, os::fd::AsFd};

use super::super::{
    link::Link,
    memory::SharedMemory,
    message::{Answer, Ask, BlockInfo, Described, Opened, Output, Slot, Spec, VERSION},
};
use super::*;

/// A worker with a network of one block that gives what it takes; of which one answer is a lie.
pub(super) fn serve(lie: &str) -> ! {
    let socket = io::stdin().as_fd().try_clone_to_owned().unwrap();
    let mut link = Link::over(socket);
    let mut memory = None;
    let spec = Spec::new(&input(&[0.0; 4]).spec).unwrap();
    while let Ok(asked) = link.receive::<Ask>(None) {
        let answer = match asked.body {
            Ask::Open { device, .. } => {
                memory = asked.file.map(|file| SharedMemory::open(file).unwrap());
                let version = if lie == "version" { VERSION + 1 } else { VERSION };
                let device = if lie == "device" { Device::Cuda(1) } else { device };
                Answer::Opened(Opened { version, device, name: "liar".into(), driver: None, free: None })
            }
            Ask::Load { .. } => {
                let forms = if lie == "form" { vec![99] } else { vec![0] };
                let block = BlockInfo { name: "same".into(), gives: spec.clone(), flops: 0, weights: 1, forms };
                let blocks = if lie == "no-blocks" { Vec::new() } else { vec![block] };
                Answer::Loaded(Described { input: spec.clone(), blocks })
            }
            Ask::Run { inputs, .. } => ran(lie, memory.as_ref().unwrap(), &inputs),
            _ => Answer::Unloaded,
        };
        let number = if lie == "number" && asked.number > 1 { asked.number - 1 } else { asked.number };
        if lie == "hang-up" && matches!(answer, Answer::Ran { .. }) {
            rustix::net::shutdown(&link, rustix::net::Shutdown::Both).unwrap();
            loop {
                std::thread::park();
            }
        }
        link.send(number, &answer, None).unwrap();
        if lie == "scribble"
            && let Some(memory) = &memory
        {
            // Races with the host, which sees the tensor or refuses it.
            memory.write(memory.len() / 2, &[0xff; 16]);
        }
    }
    std::process::exit(0)
}

fn ran(lie: &str, memory: &SharedMemory, inputs: &[Slot]) -> Answer {
    let half = memory.len() / 2;
    let taken: Vec<_> = inputs.iter().map(|slot| slot.take(memory, 0, half).unwrap()).collect();
    let mut at = half;
    let mut outputs: Vec<_> = taken
        .iter()
        .map(|activation| {
            let other = input(&[5.0; 3]);
            let (slot, next) =
                Slot::put(if lie == "shape" { &other } else { activation }, memory, at, memory.len()).unwrap();
            at = next;
            Output::Continue(slot)
        })
        .collect();
    match (lie, outputs.first_mut()) {
        ("hash", _) => drop(memory.write(half, &[1; 4])),
        ("place", Some(Output::Continue(slot))) => slot.at = memory.len() as u64 - 8,
        ("far-place", Some(Output::Continue(slot))) => slot.at = u64::MAX - 2,
        ("own-place", Some(Output::Continue(slot))) => slot.at = 0,
        ("confidence", _) => {
            if let Some(Output::Continue(slot)) = outputs.pop() {
                outputs.push(Output::Exit(slot, f32::NAN));
            }
        }
        ("fewer", _) => drop(outputs.pop()),
        ("kind", _) => return Answer::Unloaded,
        ("no-room", _) => return Answer::NoRoom { needs: u64::MAX },
        _ => {}
    }
    let blocks = if lie == "blocks" { vec![1; 9] } else { vec![u64::MAX] };
    Answer::Ran { outputs, blocks, cpu: u64::MAX }
}

fn liar(lie: &str) -> Result<Worker, AcceleratorError> {
    let guest = ["--exact", "accelerator::worker::tests::guest", "--nocapture"].map(str::to_owned);
    let arguments = guest.into_iter().chain([format!("lie={lie}")]);
    Worker::of(env::current_exe().unwrap(), Device::Cpu).arguments(arguments).memory(MEMORY).start()
}

#[test]
fn no_lie_is_taken_for_an_answer() {
    let told = [
        ("hash", "hash"),
        ("place", "place"),
        ("far-place", "place"),
        ("own-place", "place"),
        ("shape", "shape"),
        ("fewer", "number of outputs"),
        ("blocks", "number of outputs"),
        ("kind", "kind"),
        ("number", "number"),
    ];
    for (lie, part) in told {
        let worker = liar(lie).unwrap();
        let loaded = load(&worker, "good").unwrap();
        for _ in 0..2 {
            match loaded.graph().step(0..1, input(&[1.0; 4])) {
                Err(ModelError::Block { source, .. }) => match *source.downcast::<AcceleratorError>().unwrap() {
                    AcceleratorError::Garbage { field, .. } => assert_eq!(field, part, "{lie}"),
                    AcceleratorError::Resting { .. } => {}
                    other => panic!("{lie}: {other}"),
                },
                other => panic!("{lie}: {other:?}"),
            }
            assert_eq!(worker.process(), None, "{lie}");
        }
    }
}

#[test]
fn a_worker_that_says_nothing_false_is_believed_but_for_its_times() {
    let worker = liar("nothing").unwrap();
    let loaded = load(&worker, "good").unwrap();
    let since = std::time::Instant::now();
    let ran = loaded.run(0..1, vec![input(&[1.0, 2.0, 3.0, 4.0])]);
    assert!(ran.usage.cpu <= since.elapsed() && ran.blocks[0] <= since.elapsed());
    let [Ok(flow)] = <[_; 1]>::try_from(ran.flows).unwrap() else { panic!("it has an answer") };
    assert_eq!(floats(&flow.into_activation()), [1.0, 2.0, 3.0, 4.0]);
}

#[test]
fn what_cannot_be_is_refused_wherever_it_is_said() {
    let error = liar("version").unwrap_err();
    assert!(matches!(error, AcceleratorError::Garbage { field: "version", .. }), "{error}");
    let error = liar("device").unwrap_err();
    assert!(matches!(error, AcceleratorError::OtherDevice { found: Device::Cuda(1), .. }), "{error}");
    for lie in ["form", "no-blocks"] {
        let worker = liar(lie).unwrap();
        let error = load(&worker, "good").unwrap_err();
        assert!(matches!(error, AcceleratorError::Garbage { field: "description", .. }), "{error}");
        assert_eq!(worker.describe().free, MEMORY, "{lie}");
    }
    let worker = liar("confidence").unwrap();
    let error = load(&worker, "good").unwrap().graph().step(0..1, input(&[1.0; 4])).unwrap_err();
    assert!(matches!(error, ModelError::Exit { .. }), "{error}");
    let worker = liar("no-room").unwrap();
    let loaded = load(&worker, "good").unwrap();
    let flows = loaded.run(0..1, vec![input(&[1.0; 4]); 9]).flows;
    assert_eq!(flows.iter().filter(|flow| matches!(flow, Err(ModelError::Block { .. }))).count(), 9);
}

#[test]
fn who_hangs_up_and_lives_on_is_ended() {
    let worker = liar("hang-up").unwrap();
    let loaded = load(&worker, "good").unwrap();
    match loaded.graph().step(0..1, input(&[1.0; 4])) {
        Err(ModelError::Block { source, .. }) => {
            let source = *source.downcast::<AcceleratorError>().unwrap();
            assert!(matches!(&source, AcceleratorError::Died { how, .. } if how == "signal 9"), "{source}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(worker.process(), None);
}

#[test]
fn memory_that_changes_while_it_is_read_gives_the_tensor_or_an_error() {
    let worker = liar("scribble").unwrap();
    let loaded = load(&worker, "good").unwrap();
    for _ in 0..20 {
        match loaded.graph().step(0..1, input(&[1.0; 4])) {
            Ok(flow) => assert_eq!(floats(&flow.into_activation()), [1.0; 4]),
            Err(ModelError::Block { source, .. }) => {
                let source = *source.downcast::<AcceleratorError>().unwrap();
                let known = matches!(
                    source,
                    AcceleratorError::Garbage { field: "hash", .. } | AcceleratorError::Resting { .. }
                );
                assert!(known, "{source}");
            }
            Err(other) => panic!("{other}"),
        }
    }
}

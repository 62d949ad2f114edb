//! Programs that speak as workers do, whatever becomes of them.

use super::*;

#[test]
fn every_range_gives_what_it_gives_here_and_says_what_it_took() {
    let worker = worker();
    let there = load(&worker, "good").unwrap();
    let here = loaders().load(&source("good"), Device::Cpu).unwrap();
    assert_eq!(there.graph().edges(), here.edges());
    for (there, here) in there.graph().blocks().iter().zip(here.blocks()) {
        assert_eq!((there.name(), there.wire_forms()), (here.name(), here.wire_forms()));
        assert_eq!(there.cost(&input(&[0.0; 4]).spec), here.cost(&input(&[0.0; 4]).spec));
    }
    for (from, to) in [(0, 1), (0, 3), (1, 2), (1, 3), (2, 3)] {
        let batch: Vec<_> = (1..6u8).map(|i| input(&[f32::from(i), 0.5, -1.5, 7.0])).collect();
        let ran = there.run(from..to, batch.clone());
        assert_eq!(ran.blocks.len(), to - from);
        for (flow, input) in ran.flows.into_iter().zip(batch) {
            let expected = here.step(from..to, input.clone()).unwrap().into_activation();
            assert_eq!(floats(&flow.unwrap().into_activation()), floats(&expected));
            assert_eq!(floats(&there.graph().run(from..to, input).unwrap()), floats(&expected));
        }
    }
}

#[test]
fn other_shapes_than_the_usual_are_taken_where_the_network_takes_them() {
    let worker = worker();
    let loaded = load(&worker, "good").unwrap();
    let long = loaded.graph().step(0..3, input(&[1.0; 70])).unwrap().into_activation();
    assert_eq!(floats(&long), [7.0; 70]);
    let bytes = Activation::new(TensorSpec::new(DType::U8, &[1, 4]), vec![0; 4].into()).unwrap();
    let error = loaded.graph().step(0..3, bytes).unwrap_err();
    assert!(matches!(&error, ModelError::Shape { block, .. } if block == "step1"), "{error}");
    let mut kept = vec![scf_core::BlockMemory::default(); 3];
    let error = loaded.graph().follow(0..3, input(&[1.0; 4]), &mut kept).unwrap_err();
    assert!(matches!(error, ModelError::Memory { .. }), "{error}");
}

#[test]
fn an_input_that_fails_or_is_answered_early_does_not_touch_the_others() {
    let worker = worker();
    let loaded = load(&worker, "good").unwrap();
    let batch = [0.0, FAIL, EXIT, 5.0].map(|first| input(&[first, 1.0, 2.0, 3.0]));
    let mut flows = loaded.run(0..3, batch.to_vec()).flows.into_iter();
    let mut next = || flows.next().unwrap();
    assert_eq!(floats(&next().unwrap().into_activation()), [6.0, 7.0, 8.0, 9.0]);
    let error = next().unwrap_err();
    let ModelError::Block { source, .. } = error else { panic!("{error}") };
    assert_eq!(source.to_string(), "block step2 is not hosted here");
    match next().unwrap() {
        Flow::Exit { scores, confidence } => assert_eq!((floats(&scores), confidence), (vec![9.0; 4], 0.5)),
        other => panic!("{other:?}"),
    }
    assert_eq!(floats(&next().unwrap().into_activation())[0], 11.0);
    assert_eq!(floats(&loaded.graph().run(0..3, input(&[EXIT, 0.0, 0.0, 0.0])).unwrap()), [9.0 + 3.0; 4]);
}

#[test]
fn a_worker_that_ends_in_a_run_costs_that_run_and_is_started_again() {
    let worker = worker();
    let (first, second) = (load(&worker, "good").unwrap(), load(&worker, "other").unwrap());
    let free = worker.describe().free;
    for (how, ended) in [(ABORT, "signal 6"), (KILL, "signal 9"), (PANIC, "seven is no number")] {
        let before = worker.process().unwrap();
        match fault(&first, how) {
            AcceleratorError::Died { device: Device::Cpu, asked: "run blocks", how } => {
                assert!(how.contains(ended), "{how}");
            }
            other => panic!("{other}"),
        }
        assert_eq!(worker.process(), None, "it is not kept");
        for loaded in [&second, &first] {
            assert_eq!(run(loaded, 1.0).unwrap(), [7.0, 7.0, 8.0, 9.0]);
        }
        assert_ne!(worker.process(), Some(before));
        assert_eq!(worker.describe().free, free, "what was loaded again has the memory that it had");
    }
}

#[test]
fn a_worker_that_hangs_or_says_what_is_no_message_is_ended() {
    let worker = settings(Device::Cpu).patience(Duration::from_secs(20)).start().unwrap();
    let loaded = load(&worker, "good").unwrap();
    let garbage = fault(&loaded, GARBAGE);
    assert!(matches!(garbage, AcceleratorError::Garbage { field: "length" | "magic", .. }), "{garbage}");
    assert_eq!(run(&loaded, 1.0).unwrap()[0], 7.0);
    let late = fault(&loaded, HANG);
    assert!(matches!(late, AcceleratorError::Late { asked: "run blocks", .. }), "{late}");
    assert_eq!(worker.process(), None);
    assert_eq!(run(&loaded, 1.0).unwrap()[0], 7.0);
}

#[test]
fn a_worker_that_ends_again_and_again_is_left_alone() {
    let worker = worker();
    let loaded = load(&worker, "good").unwrap();
    // Rests double: however slow this thread is, one of them outlasts it.
    let rested = (0..30).map(|_| fault(&loaded, ABORT)).find(|error| !matches!(error, AcceleratorError::Died { .. }));
    match rested {
        Some(AcceleratorError::Resting { deaths, rest, .. }) => {
            assert!(deaths >= 2 && !rest.is_zero(), "{deaths} {rest:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn memory_is_granted_before_a_load_and_given_back_with_the_model() {
    let worker = worker();
    assert_eq!((worker.describe().total, worker.describe().free), (MEMORY, MEMORY));
    let (first, second) = (load(&worker, "good").unwrap(), load(&worker, "other").unwrap());
    let error = worker.reserve(ByteSize::from_kib(3)).unwrap_err();
    assert_eq!(error.to_string(), "accelerator cpu has 2048 B of memory free of 4096 B, not 3072 B");
    let graph = first.graph().clone();
    drop(first);
    assert_eq!(worker.describe().free, ByteSize::from_kib(2), "a clone of its graph is left");
    let before = worker.process();
    drop(graph);
    assert_eq!((worker.describe().free, worker.process()), (ByteSize::from_kib(3), before));
    drop(second);
    assert_eq!((worker.describe().free, worker.process()), (MEMORY, None), "the process ends with the last model");
    assert_eq!(run(&load(&worker, "good").unwrap(), 1.0).unwrap()[0], 7.0);
}

#[test]
fn a_model_that_goes_while_another_runs_is_let_go_of_after_it() {
    let worker = worker();
    let (first, second) = (load(&worker, "good").unwrap(), load(&worker, "other").unwrap());
    let running = worker.0.state();
    drop(first);
    assert_eq!(worker.describe().free, ByteSize::from_kib(2), "the worker still has it");
    drop(running);
    run(&second, 1.0).unwrap();
    assert_eq!(worker.describe().free, ByteSize::from_kib(3));
}

#[test]
fn a_load_that_fails_gives_its_memory_back_and_leaves_the_others() {
    let worker = worker();
    let good = load(&worker, "good").unwrap();
    let free = worker.describe().free;
    let error = load(&worker, "refuse").unwrap_err();
    assert!(matches!(error, AcceleratorError::Load { .. }), "{error}");
    let error = load(&worker, "heavy").unwrap_err();
    let AcceleratorError::OverLease { takes, leased, .. } = error else { panic!("{error}") };
    assert_eq!((takes.bytes(), leased), (6000, LEASE));
    let large = "x".repeat(2000);
    assert!(matches!(load(&worker, &format!("good {large}")), Err(AcceleratorError::OverLease { .. })));
    let other = settings(Device::Cpu).start().unwrap();
    let error = other.load(worker.reserve(LEASE).unwrap(), &source("good")).unwrap_err();
    assert!(matches!(error, AcceleratorError::ForeignLease { .. }), "{error}");
    let error = load(&worker, "abort").unwrap_err();
    assert!(matches!(error, AcceleratorError::Died { asked: "load a model", .. }), "{error}");
    assert_eq!(worker.describe().free, free);
    assert_eq!(run(&good, 1.0).unwrap()[0], 7.0);
}

#[test]
fn a_model_that_cannot_be_loaded_again_is_lost_alone() {
    let folder = tempfile::tempdir().unwrap();
    let worker = worker();
    let good = load(&worker, "good").unwrap();
    let once = load(&worker, &format!("once {}", folder.path().join("loaded").display())).unwrap();
    assert_eq!(worker.describe().free, ByteSize::from_kib(2));
    fault(&good, ABORT);
    for _ in 0..2 {
        let error = fault(&once, 1.0);
        let AcceleratorError::Lost { source, .. } = error else { panic!("{error}") };
        assert!(matches!(*source, AcceleratorError::Died { .. }), "{source}");
    }
    assert_eq!(worker.describe().free, ByteSize::from_kib(3));
    // It has ended twice in a row by now and is left alone for a moment; each try after that is one of its own.
    let again = std::iter::repeat_with(|| run(&good, 1.0)).find(Result::is_ok).unwrap().unwrap();
    assert_eq!(again[0], 7.0);
    drop(once);
    assert_eq!(worker.describe().free, ByteSize::from_kib(3), "it is given back once");
}

#[test]
fn what_does_not_fit_together_goes_in_pieces_and_what_does_not_fit_alone_is_refused() {
    let worker = settings(Device::Cpu).shared(ByteSize::from_kib(8)).start().unwrap();
    let loaded = load(&worker, "wide").unwrap();
    // 64 inputs fit, and 2 outputs.
    let batch: Vec<_> = (0..150u8).map(|i| input(&[f32::from(i), 0.0, 0.0, 0.0])).collect();
    let ran = loaded.run(0..3, batch);
    assert_eq!(ran.flows.len(), 150);
    for (i, flow) in (0..150u8).zip(ran.flows) {
        let out = floats(&flow.unwrap().into_activation());
        assert_eq!((out.len(), out[0], out[396], out[1]), (400, f32::from(i) + 6.0, f32::from(i) + 6.0, 6.0));
    }
    let batch = vec![input(&[1.0; 4]), input(&[1.0; 2000]), input(&[2.0; 4]), input(&[1.0; 20]), input(&[3.0; 4])];
    let flows = loaded.run(0..3, batch).flows;
    let told: Vec<_> = flows
        .into_iter()
        .map(|flow| match flow {
            Ok(flow) => floats(&flow.into_activation())[0].to_string(),
            Err(ModelError::Block { source, .. }) => source.to_string(),
            Err(other) => other.to_string(),
        })
        .collect();
    let room = "does not fit into the 4096 B that the worker of cpu has for one way: share more";
    let refused = |bytes| format!("a tensor of {bytes} {room}");
    assert_eq!(told, ["7".to_owned(), refused("8000 B"), "8".into(), refused("8000 B"), "9".into()]);
}

#[test]
fn a_device_that_is_not_there_is_an_error_that_names_feature_and_driver() {
    let error = settings(Device::Metal(0)).start().unwrap_err().to_string();
    let expected = "accelerator metal:0 is not there: it needs the feature metal and the framework Metal; ";
    assert!(error.starts_with(expected), "{error}");
    // What the dynamic loader says of a worker that was built with CUDA where no driver is.
    let loader = "x: error while loading shared libraries: libcuda.so.1: cannot open shared object file";
    let script = format!("echo '{loader}: No such file or directory' >&2; exit 127");
    let error = Worker::of("/bin/sh", Device::Cuda(0)).arguments(["-c".to_owned(), script]).start().unwrap_err();
    assert!(matches!(error, AcceleratorError::Absent { feature: "cuda", .. }), "{error}");
    let error = error.to_string();
    assert!(error.contains("the driver libcuda.so.1; exit status 127: x: error while loading"), "{error}");
}

#[test]
fn a_program_that_is_no_worker_is_an_error_that_names_it() {
    for (program, problem) in [("/no/such/worker", "No such file"), ("/bin/false", "exit status 1")] {
        let error = Worker::of(program, Device::Cpu).start().unwrap_err();
        assert!(matches!(error, AcceleratorError::NotStarted { .. }), "{error}");
        assert!(error.to_string().contains(program) && error.to_string().contains(problem), "{error}");
    }
}

//! Weights of every network that takes them in this format.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scf_ai::{Device, DigitImages, DigitsCnn, EfficientNetLite, MiniLm, SileroVad};
use scf_core::ModelName;

fuzz_target!(|file: &[u8]| {
    let _ = DigitsCnn::load(ModelName::new("fuzzed").expect("a valid name"), file, Device::Cpu);
    let _ = DigitImages::read(file);
    let _ = EfficientNetLite::Lite0.load(file, Device::Cpu);
    let _ = MiniLm::new(16).load(file, Device::Cpu);
    let _ = SileroVad::load(file);
});

//! Chooses the largest frame: a function of an interface, with records, an enum, an option and a result.

mod bindings {
    wit_bindgen::generate!({ path: "wit", world: "frames" });
}

use bindings::exports::scf::frames::select::{Choice, Frame, Guest};

struct Frames;

fn area(frame: &Frame) -> u64 {
    u64::from(frame.width) * u64::from(frame.height)
}

impl Guest for Frames {
    fn largest(mut frames: Vec<Frame>) -> Result<Choice, String> {
        // Of equal ones `max_by_key` gives the last, so it looks from the end.
        let largest = (0..frames.len()).rev().max_by_key(|&at| area(&frames[at]));
        let frame = frames.remove(largest.ok_or("no frames to choose from")?);
        let others = frames.into_iter().map(|frame| frame.camera).collect();
        Ok(Choice { area: area(&frame), frame, others })
    }
}

bindings::export!(Frames with_types_in bindings);

#[cfg(test)]
mod tests {
    use super::{Frame, Frames, Guest, bindings::exports::scf::frames::select::Kind};

    fn frame(camera: &str, width: u32) -> Frame {
        Frame { camera: camera.into(), width, height: 2, kind: Kind::Grey, label: None }
    }

    #[test]
    fn gives_the_first_of_the_largest() {
        let frames = vec![frame("a", 1), frame("b", 7), frame("c", 7)];
        let choice = Frames::largest(frames).unwrap();
        assert_eq!((choice.frame.camera.as_str(), choice.area), ("b", 14));
        assert_eq!(choice.others, ["a", "c"]);
    }

    #[test]
    fn gives_an_error_of_none() {
        assert_eq!(Frames::largest(Vec::new()).unwrap_err(), "no frames to choose from");
    }
}

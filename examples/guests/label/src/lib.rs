//! Turns the logits of an ImageNet classifier into the five most probable classes, as JSON.

use std::fmt::Write;

use tensor::Tensor;

mod bindings {
    wit_bindgen::generate!({ path: "wit", world: "label" });
}

const CLASSES: usize = 1000;
const TOP: usize = 5;
/// One class name a line.
const NAMES: &str = include_str!("../../../assets/imagenet-labels.txt");

struct Label;

impl bindings::Guest for Label {
    fn label(input: Vec<u8>) -> Result<Vec<u8>, String> {
        let logits = parse(&input)?;
        Ok(to_json(&softmax_top(&logits)).into_bytes())
    }
}

bindings::export!(Label with_types_in bindings);

fn parse(input: &[u8]) -> Result<Vec<f32>, String> {
    let tensor = Tensor::parse(input).map_err(|error| format!("logits.{error}"))?;
    let logits: Vec<f32> = tensor.f32_values().map_err(|error| format!("logits.{error}"))?.collect();
    if tensor.dims() != [1, CLASSES as u32] {
        let found = tensor.dims();
        return Err(format!("logits.dims: {found:?}, expected [1, {CLASSES}]"));
    }
    match logits.iter().position(|logit| !logit.is_finite()) {
        Some(class) => Err(format!("logits.data: class {class} is {}, expected finite", logits[class])),
        None => Ok(logits),
    }
}

/// The most probable classes and their probabilities, best first; the lower class wins a tie.
fn softmax_top(logits: &[f32]) -> Vec<(usize, f32)> {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    let better = |a: &usize, b: &usize| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b));
    order.select_nth_unstable_by(TOP - 1, better);
    order.truncate(TOP);
    order.sort_unstable_by(better);
    let best = logits[order[0]];
    let sum: f32 = logits.iter().map(|logit| (logit - best).exp()).sum();
    order.into_iter().map(|class| (class, (logits[class] - best).exp() / sum)).collect()
}

fn to_json(top: &[(usize, f32)]) -> String {
    let mut json = String::from(r#"{"top5":["#);
    for (i, &(class, probability)) in top.iter().enumerate() {
        let name = NAMES.lines().nth(class).expect("there is a name for every class");
        let comma = if i == 0 { "" } else { "," };
        write!(json, r#"{comma}{{"class":{class},"name":"{name}","probability":{probability:.4}}}"#)
            .expect("a String takes every write");
    }
    json.push_str("]}");
    json
}

#[cfg(test)]
mod tests {
    use super::{CLASSES, Label, NAMES, bindings::Guest};

    fn label(logits: &[f32]) -> Result<String, String> {
        let message = tensor::encode_f32(&[1, logits.len() as u32], logits);
        Label::label(message).map(|json| String::from_utf8(json).unwrap())
    }

    #[test]
    fn names_need_no_escaping_in_json() {
        assert_eq!(NAMES.lines().count(), CLASSES);
        assert!(NAMES.bytes().all(|b| b == b'\n' || (b' '..0x7f).contains(&b)));
        assert!(!NAMES.contains(['"', '\\']));
    }

    #[test]
    fn lists_the_five_best_with_their_probabilities() {
        let mut logits = [-1e4; CLASSES];
        for (class, p) in [(285, 0.5_f32), (0, 0.25), (999, 0.125), (7, 0.0625), (8, 0.0625)] {
            logits[class] = p.ln();
        }
        let expected = r#"{"top5":[
            {"class":285,"name":"Egyptian cat","probability":0.5000},
            {"class":0,"name":"tench, Tinca tinca","probability":0.2500},
            {"class":999,"name":"toilet tissue, toilet paper, bathroom tissue","probability":0.1250},
            {"class":7,"name":"cock","probability":0.0625},
            {"class":8,"name":"hen","probability":0.0625}]}"#;
        assert_eq!(label(&logits).unwrap(), expected.replace("\n            ", ""));
    }

    #[test]
    fn large_logits_do_not_overflow() {
        let mut logits = [0.0; CLASSES];
        logits[3] = f32::MAX;
        let json = label(&logits).unwrap();
        assert!(
            json.starts_with(r#"{"top5":[{"class":3,"name":"tiger shark, Galeocerdo cuvieri","probability":1.0000}"#),
            "{json}"
        );
    }

    #[test]
    fn names_the_field_that_is_wrong() {
        assert_eq!(label(&[0.0; 10]).unwrap_err(), "logits.dims: [1, 10], expected [1, 1000]");
        let mut logits = [0.0; CLASSES];
        logits[17] = f32::NAN;
        assert_eq!(label(&logits).unwrap_err(), "logits.data: class 17 is NaN, expected finite");
        let mut message = tensor::encode_f32(&[1, 1000], &[0.0; CLASSES]);
        message[5] = 1;
        message.truncate(16 + 2000);
        assert_eq!(Label::label(message).unwrap_err(), "logits.dtype: f16, expected f32");
    }
}

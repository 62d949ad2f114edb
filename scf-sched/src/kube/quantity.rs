//! Amounts as Kubernetes writes them.

/// How many thousandths `text` is: `250m`, `4`, `1.5`, `16Gi`, `1e3`. `None` where it is no amount, or more than can be.
pub(super) fn thousandths(text: &str) -> Option<u64> {
    let end = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor = match unit {
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => (1_u64 << 10) as f64,
        "Mi" => (1_u64 << 20) as f64,
        "Gi" => (1_u64 << 30) as f64,
        "Ti" => (1_u64 << 40) as f64,
        "Pi" => (1_u64 << 50) as f64,
        "Ei" => (1_u64 << 60) as f64,
        exponent => 10_f64.powi(exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    let amount = number.parse::<f64>().ok()? * factor * 1e3;
    (0.0..u64::MAX as f64).contains(&amount).then(|| amount.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_in_all_units_and_nothing_else_is() {
        for (text, amount) in [
            ("250m", 250),
            ("4", 4000),
            ("1.5", 1500),
            ("3920m", 3920),
            ("1k", 1_000_000),
            ("2Ki", 2_048_000),
            ("16Gi", 17_179_869_184_000),
            ("100000u", 100),
        ] {
            assert_eq!(thousandths(text), Some(amount), "{text}");
        }
        for text in ["", "m", "Gi", "-1", "1x", "1 Gi", "nan", "inf", "99999E", "1e", "1Gi2"] {
            assert_eq!(thousandths(text), None, "{text}");
        }
        assert_eq!(thousandths("1E"), None, "more than can be counted");
    }
}

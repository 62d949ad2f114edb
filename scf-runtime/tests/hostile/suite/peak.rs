//! How much memory the process had at most.

/// Memory of this process at one moment, from which its peak is measured.
pub(crate) struct Peak(Option<u64>);

impl Peak {
    /// From now on. Measures nothing on systems that do not say.
    pub(crate) fn since_now() -> Self {
        // 5 resets the high-water mark; see proc_pid_clear_refs(5).
        let reset = std::fs::write("/proc/self/clear_refs", "5").ok();
        Self(reset.and_then(|()| status("VmRSS:")))
    }

    /// MiB by which the memory has grown at most, where it is known.
    pub(crate) fn mib(&self) -> Option<u64> {
        Some(status("VmHWM:")?.saturating_sub(self.0?) >> 10)
    }
}

/// KiB of a line of the process's status.
fn status(line: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let value = status.lines().find_map(|text| text.strip_prefix(line))?;
    value.split_whitespace().next()?.parse().ok()
}

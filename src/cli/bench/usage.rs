//! What a process has used, as Linux tells it in `/proc/PID`, and what `/metrics` says.

use std::collections::BTreeMap;
use std::fs;

/// Clock ticks per second in `/proc/PID/stat`: 100 on every Linux that Rust supports (USER_HZ).
const TICKS_PER_SECOND: f64 = 100.0;

/// Figures of one process at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    pub cpu_seconds: f64,
    /// The most that it ever held.
    pub rss_peak_bytes: u64,
    pub rss_bytes: u64,
    /// Sent towards the disk.
    pub written_bytes: u64,
}

impl Usage {
    /// Reads a process's figures; what cannot be read is zero.
    pub fn of(pid: u32) -> Self {
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        Self {
            cpu_seconds: cpu_seconds(&read("stat")).unwrap_or_default(),
            rss_peak_bytes: field(&read("status"), "VmHWM:").unwrap_or_default() * 1_024,
            rss_bytes: field(&read("status"), "VmRSS:").unwrap_or_default() * 1_024,
            written_bytes: field(&read("io"), "write_bytes:").unwrap_or_default(),
        }
    }
}

/// User and system time. The second field is the program's name in parentheses and may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, behind_name) = stat.rsplit_once(") ")?;
    let mut fields = behind_name.split(' ').skip(11); // utime is field 14, the first here is field 3
    let (user, system) = (fields.next()?.parse::<u64>().ok()?, fields.next()?.parse::<u64>().ok()?);
    Some((user + system) as f64 / TICKS_PER_SECOND)
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// Returns the children of a process with their programs' names.
pub fn children(parent: u32) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let Some((before, behind)) = stat.rsplit_once(") ") else { continue };
        if behind.split(' ').nth(1).and_then(|ppid| ppid.parse().ok()) == Some(parent) {
            let name = before.split_once('(').map_or(before, |(_, name)| name);
            found.push((pid, name.to_owned()));
        }
    }
    found
}

/// Reads a Prometheus page; the values of one name are added up over its labels.
pub fn metrics(page: &str) -> BTreeMap<String, f64> {
    let mut found = BTreeMap::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, value)) = line.rsplit_once(' ') else { continue };
        let name = name.split('{').next().unwrap_or(name).trim();
        if let Ok(value) = value.parse::<f64>() {
            *found.entry(name.to_owned()).or_default() += value;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "12 (a) b (c) S 1 12 12 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 100 0 0";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("garbage"), None);
    }

    #[test]
    fn this_process_has_used_something() {
        let usage = Usage::of(std::process::id());
        assert!(usage.rss_bytes > 0 && usage.rss_peak_bytes >= usage.rss_bytes / 2, "{usage:?}");
        assert_eq!(Usage::of(0), Usage::default(), "no such process");
    }

    #[test]
    fn a_page_of_metrics() {
        let page = "# HELP a b\na_total{x=\"1\"} 2\na_total{x=\"2\"} 3\nb 1.5\nbroken\n";
        let metrics = metrics(page);
        assert_eq!((metrics["a_total"], metrics["b"], metrics.len()), (5.0, 1.5, 2));
    }
}

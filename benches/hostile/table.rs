//! The table of hostile guests, in a process that they may end.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use super::{
    Result, Setup, figure,
    suite::{Log, Site, cases, leaked},
};

/// Runs the cases from number `from` on, printing the number before each and what became of it after.
pub(crate) fn child(from: usize) -> Result<()> {
    let log = Log::install();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let site = Site::new(log).await;
        for (number, case) in cases().iter().enumerate().skip(from) {
            println!("begin {number}");
            match case.run(&site).await {
                Ok(()) => println!("contained {number}"),
                Err(problem) => println!("escaped {number} {}: {}: {problem}", case.threat, case.name),
            }
        }
    });
    Ok(())
}

/// Prints how many places were not as they should be when slots were reused, and how often they were.
pub(crate) fn reuse(Setup { cores, quick }: Setup) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(cores).enable_all().build()?;
    let reuses = if quick { 1_000 } else { 100_000 };
    let found = runtime.block_on(async { leaked(&Site::new(Log::default()).await, reuses, 4).await })?;
    println!("{found} {reuses}");
    Ok(())
}

/// Runs all cases and counts those that were contained; where one ends its process, the next begins another.
pub(crate) fn figures() -> Result<()> {
    let total = cases().len();
    let (mut contained, mut next) = (0, 0);
    while next < total {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["table", &next.to_string()])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        for line in BufReader::new(child.stdout.take().ok_or("the child's output")?).lines() {
            let line = line?;
            let mut words = line.splitn(3, ' ');
            let (what, number) = (words.next(), words.next().and_then(|word| word.parse::<usize>().ok()));
            let Some(number) = number else { continue };
            next = number + 1;
            match what {
                Some("contained") => contained += 1,
                Some("escaped") => eprintln!("not contained: {}", words.next().unwrap_or_default()),
                _ => {}
            }
        }
        let status = child.wait()?;
        if !status.success() {
            let name = next.checked_sub(1).and_then(|number| cases().into_iter().nth(number)).map(|case| case.name);
            eprintln!("the process ended ({status}) in: {}", name.unwrap_or("the start"));
            if name.is_none() {
                return Err("no case was begun".into());
            }
        }
    }
    figure("hostile.cases", total as f64, "cases", total);
    figure("hostile.contained", f64::from(contained) / total as f64, "share", total);
    Ok(())
}

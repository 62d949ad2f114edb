//! Guests that look for what the call before left in their slot.

use futures::FutureExt;
use scf_core::Function;

use super::{
    Attack, Case, Expect,
    guest::{Guest, answer},
    limits,
    site::{INSTANCES, Site},
};

const THREAT: &str = "leftovers of the call before";

/// Counts what is not as the module says: words of its memory, elements of its table, its global. Then fills all of
/// it, makes the memory twice as large, counts and fills that too. More than a slot keeps resident.
fn canary() -> Function {
    let scan = |from: u32, to: u32| {
        format!(
            "(local.set $at (i32.const {from}))
             (loop $scan
               (if (i64.ne (i64.load (local.get $at)) (i64.const 0))
                 (then (local.set $found (i32.add (local.get $found) (i32.const 1)))))
               (br_if $scan (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const {to}))))
             (memory.fill (i32.const {from}) (i32.const 0xaa) (i32.const {}))",
            to - from
        )
    };
    let (first, second) = (scan(8192, 256 << 10), scan(256 << 10, 512 << 10));
    Guest::new(format!(
        "(local $at i32) (local $found i32)
         {first}
         (if (i32.eq (memory.grow (i32.const 4)) (i32.const -1)) (then (unreachable)))
         {second}
         (local.set $at (i32.const 0))
         (loop $scan
           (if (i32.eqz (ref.is_null (table.get (local.get $at))))
             (then (local.set $found (i32.add (local.get $found) (i32.const 1)))))
           (table.set (local.get $at) (ref.func $mark))
           (br_if $scan (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 1))) (i32.const 1000))))
         (if (i64.ne (global.get $mark) (i64.const 7))
           (then (local.set $found (i32.add (local.get $found) (i32.const 1)))))
         (global.set $mark (i64.const -1))
         {}",
        answer("(local.get $found)")
    ))
    .memory("4")
    .fields("(table 1000 funcref) (global $mark (mut i64) (i64.const 7)) (elem declare func $mark) (func $mark)")
    .build()
    .limits(limits(1000, 8))
}

/// Reuses slots `rounds` times, on `tasks` at the same time, and gives how many places were not as they should be.
///
/// # Errors
/// A call that failed.
pub(crate) async fn leaked(site: &Site, rounds: usize, tasks: usize) -> Result<u64, String> {
    site.deploy(&canary()).await?;
    let rounds_of = |_| async {
        let mut found = 0;
        for _ in 0..rounds / tasks {
            let bytes = site.call(b"").await.map_err(|error| error.to_string())?;
            found += u64::from(u32::from_le_bytes(bytes[..].try_into().map_err(|_| "no number")?));
        }
        Ok::<_, String>(found)
    };
    Ok(futures::future::try_join_all((0..tasks).map(rounds_of)).await?.into_iter().sum())
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new(
            THREAT,
            "memory, table and global of the call before",
            Attack::Story(|site| {
                async move {
                    match leaked(site, 10 * INSTANCES as usize, 4).await? {
                        0 => Ok(()),
                        leaked => Err(format!("{leaked} places are not as they should be")),
                    }
                }
                .boxed()
            }),
        ),
        Case::new(
            THREAT,
            "memory of a call that trapped",
            Attack::Story(|site| {
                async move {
                    let marks =
                        Guest::new("(memory.fill (i32.const 0) (i32.const 0xaa) (i32.const 1048576)) (unreachable)");
                    for _ in 0..2 * INSTANCES {
                        site.deploy(&marks.clone().memory("16").build()).await?;
                        Expect::Trap(&["unreachable"]).check(&site.call(b"").await)?;
                        if leaked(site, 2, 1).await? != 0 {
                            return Err("memory is not as it should be".into());
                        }
                    }
                    Ok(())
                }
                .boxed()
            }),
        ),
        Case::new(
            THREAT,
            "handles of the call before",
            Attack::Story(|site| {
                async move {
                    let opens = Guest::new(
                        "(drop (call $stdout)) (drop (call $stdout)) (call $block (i32.const 3)) (i32.const 0)",
                    );
                    site.deploy(&opens.host().build()).await?;
                    for _ in 0..2 * INSTANCES {
                        Expect::Trap(&["unknown handle index"]).check(&site.call(b"").await)?;
                    }
                    Ok(())
                }
                .boxed()
            }),
        ),
        Case::new(
            THREAT,
            "a secret of another function, in the same slots",
            Attack::Story(|site| {
                async move {
                    let secret = "(memory.fill (i32.const 0) (i32.const 0x53) (i32.const 65536)) ";
                    let keeps = Guest::new(format!("{secret} {}", answer("(i32.const 0)"))).build();
                    for _ in 0..4 {
                        site.deploy(&keeps).await?;
                        for _ in 0..INSTANCES {
                            Expect::Length(4).check(&site.call(b"").await)?;
                        }
                        if leaked(site, INSTANCES as usize, 1).await? != 0 {
                            return Err("memory is not as it should be".into());
                        }
                    }
                    Ok(())
                }
                .boxed()
            }),
        ),
    ]
}

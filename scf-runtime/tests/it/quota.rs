//! What guests may add to folders that they may write to.

use std::fs;

use scf_core::{ByteSize, FileGrant, FolderQuota, Function, Grants, IsolateFactory, Prepared};

use crate::{
    support::call,
    wasm::{factory, guest},
    world::Ticking,
};

const FULL: &str = "error StorageFull";
/// What the guest's C library says of whatever fails in a stream.
const FAILED: &str = "error Uncategorized";

/// The guest that does what it is told, with folders of a megabyte and ten entries each.
struct Site {
    folders: [tempfile::TempDir; 2],
    function: Function,
    prepared: std::sync::Arc<dyn Prepared>,
}

impl Site {
    async fn new() -> Self {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let quota = FolderQuota { size: ByteSize::from_mib(1), entries: 10 };
        let grant = |(folder, guest): (&tempfile::TempDir, &str)| FileGrant {
            host: folder.path().into(),
            guest: guest.into(),
            write: true,
            quota,
        };
        let files = folders.iter().zip(["/data", "/other"]).map(grant).collect();
        let function = guest("probe", "run").grants(Grants { files, ..Grants::default() });
        let prepared = factory().prepare(&function).await.unwrap();
        Self { folders, function, prepared }
    }

    /// What a fresh guest answers to each line.
    async fn answers(&self, commands: &str) -> Vec<String> {
        let mut isolate = self.prepared.instantiate().await.unwrap();
        let reply = isolate.invoke(&call(&self.function, Ticking::new()), commands.to_owned().into()).await.unwrap();
        str::from_utf8(&reply.payload.bytes).unwrap().lines().map(Into::into).collect()
    }

    fn length(&self, name: &str) -> u64 {
        fs::metadata(self.folders[0].path().join(name)).unwrap().len()
    }
}

#[tokio::test]
async fn a_folder_is_filled_up_to_its_quota_and_what_is_removed_makes_room() {
    let site = Site::new().await;
    let commands =
        "fill /data/a 1000000\nfill /data/b 1000000\nappend /data/a xyz\nremove /data/a\nfill /data/b 1000000";
    // 48,576 bytes are left for three.
    assert_eq!(site.answers(commands).await, ["done", FAILED, "done", "done", "done"]);
    assert_eq!(site.length("b"), 1_000_000);
    assert_eq!(site.answers("fill /data/c 65536\nat /data/b 0 x").await, [FAILED, "done"], "it grows by nothing");
}

#[tokio::test]
async fn a_hole_counts_as_what_it_pretends_to_be() {
    let site = Site::new().await;
    let commands = "write /data/a x\nsize /data/a 2000000\nat /data/a 9999999999 x\nsize /data/a 1000000\n\
                    fill /data/b 65536\nsize /data/a 10\nfill /data/b 1000000";
    assert_eq!(site.answers(commands).await, ["done", FULL, FAILED, "done", FAILED, "done", "done"]);
    assert_eq!(site.length("a"), 10);
}

#[tokio::test]
async fn files_folders_and_links_are_counted() {
    let site = Site::new().await;
    assert_eq!(site.answers("files /data/f 20").await, ["10 StorageFull"]);
    let commands = "mkdir /data/d\nlink /data/f0 /data/g\nsymlink f0 s\nwrite /data/f0 again\nrename /data/f0 /data/g";
    assert_eq!(site.answers(commands).await, [FULL, FULL, "error insufficient-space", "done", "done"]);
    assert_eq!(site.answers("remove /data/f1\nfolders /data 3").await, ["done", "1 StorageFull"]);
}

#[tokio::test]
async fn a_file_without_a_name_counts_until_it_is_closed() {
    let site = Site::new().await;
    assert_eq!(site.answers("hold /data/a 600000\nhold /data/b 600000").await, ["done", FAILED]);
    assert_eq!(site.answers("fill /data/b 1000000").await, ["done"], "the guest that had it open is gone");
}

#[tokio::test]
async fn what_others_put_there_counts() {
    let site = Site::new().await;
    fs::write(site.folders[0].path().join("large"), vec![0; 1_000_000]).unwrap();
    assert_eq!(site.answers("fill /data/a 65536\nfill /other/a 65536").await, [FAILED, "done"]);
    fs::remove_file(site.folders[0].path().join("large")).unwrap();
    assert_eq!(site.answers("fill /data/a 65536").await, ["done"]);
}

#[tokio::test]
async fn guests_that_write_at_the_same_time_share_the_quota() {
    let site = Site::new().await;
    let commands = ["fill /data/a 700000", "fill /data/b 700000", "fill /data/c 700000"];
    futures::future::join_all(commands.map(|command| site.answers(command))).await;
    let all: u64 =
        fs::read_dir(site.folders[0].path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!((524_288..=1 << 20).contains(&all), "{all}");
}

#[tokio::test]
async fn nothing_goes_from_one_folder_to_another() {
    let site = Site::new().await;
    let commands = "write /data/a x\nrename /data/a /other/a\nlink /data/a /other/a\nread /data/a";
    let crosses = "error CrossesDevices";
    assert_eq!(site.answers(commands).await, ["done", crosses, crosses, "x"]);
}

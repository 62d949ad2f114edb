//! Guests that mean harm with the folders that they were granted.

use std::{fs, path::Path};

use futures::FutureExt;
use scf_core::{ByteSize, FileGrant, FolderQuota, Function, Grants};

use super::{Attack, Case, guest::hostile, site::Site};

const THREAT: &str = "folders";
/// What a folder may come to.
const QUOTA: FolderQuota = FolderQuota { size: ByteSize::from_mib(1), entries: 50 };

/// What the guest's C library says of whatever fails in a stream.
const FAILED: &str = "error Uncategorized";

/// A folder with the file `f`, beside what nobody was granted.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Result<Self, String> {
        let place = Self(tempfile::tempdir().map_err(|error| error.to_string())?);
        let make = || {
            fs::create_dir(place.0.path().join("inside"))?;
            fs::create_dir(place.0.path().join("second"))?;
            fs::write(place.0.path().join("inside/f"), "content")?;
            fs::write(place.0.path().join("secret"), "secret")
        };
        make().map_err(|error: std::io::Error| error.to_string())?;
        Ok(place)
    }

    fn function(&self, write: bool) -> Function {
        let grant = |folder: &str, guest: &str| FileGrant {
            host: self.0.path().join(folder),
            guest: guest.into(),
            write,
            quota: QUOTA,
        };
        let files = vec![grant("inside", "/data"), grant("second", "/other")];
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let components = ["examples/guests/components", "../examples/guests/components"].map(|path| root.join(path));
        let probe = components.iter().find_map(|folder| fs::read(folder.join("probe.wasm")).ok()).unwrap();
        Function::component(hostile(), probe, "run").grants(Grants { files, ..Grants::default() })
    }

    /// What the guest answers to each line, or nothing where it was ended.
    async fn tell(&self, site: &Site, write: bool, commands: &str) -> Result<Vec<String>, String> {
        site.deploy(&self.function(write)).await?;
        let Ok(answer) = site.call(commands.as_bytes()).await else { return Ok(Vec::new()) };
        Ok(String::from_utf8_lossy(&answer).lines().map(Into::into).collect())
    }

    /// Whether what was not granted is as it was, and what was is within the quota.
    fn is_contained(&self) -> Result<(), String> {
        if fs::read_to_string(self.0.path().join("secret")).ok().as_deref() != Some("secret") {
            return Err("the secret is not what it was".into());
        }
        let outside = fs::read_dir(self.0.path()).map_or(0, Iterator::count);
        let (mut entries, mut bytes) = (0, 0);
        count(&self.0.path().join("inside"), &mut entries, &mut bytes);
        if outside != 3 || entries > u64::from(QUOTA.entries) || bytes > QUOTA.size.bytes() {
            return Err(format!("{outside} files beside it, {bytes} bytes in {entries} files in it"));
        }
        Ok(())
    }
}

fn count(folder: &Path, entries: &mut u64, bytes: &mut u64) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        *entries += 1;
        match entry.metadata() {
            Ok(meta) if meta.is_dir() => count(&entry.path(), entries, bytes),
            Ok(meta) => *bytes += meta.len(),
            Err(_) => {}
        }
    }
}

/// Each of `commands` is refused, in which `OUT` is the path to what is not granted.
async fn refused(site: &Site, write: bool, commands: &str) -> Result<(), String> {
    let place = Place::new()?;
    let out = place.0.path().join("secret").display().to_string();
    let commands = commands.replace("OUT", &out);
    let answers = place.tell(site, write, &commands).await?;
    place.is_contained()?;
    match commands.lines().zip(&answers).find(|(_, answer)| !answer.starts_with("error ") || answer.contains("unknown"))
    {
        Some((command, answer)) => Err(format!("{command}: {answer}")),
        None if answers.len() == commands.lines().count() => Ok(()),
        None => Err(format!("{} answers", answers.len())),
    }
}

/// The commands are answered as they are expected to be, and the folder stays within its quota.
async fn bounded(site: &Site, commands: &[(&str, &str)]) -> Result<(), String> {
    let place = Place::new()?;
    let lines: Vec<&str> = commands.iter().map(|(command, _)| *command).collect();
    let answers = place.tell(site, true, &lines.join("\n")).await?;
    place.is_contained()?;
    let expected: Vec<&str> = commands.iter().map(|(_, answer)| *answer).collect();
    if answers == expected { Ok(()) } else { Err(format!("expected {expected:?}, found {answers:?}")) }
}

macro_rules! story {
    ($name:literal, |$site:ident| $attack:expr) => {
        Case::new(THREAT, $name, Attack::Story(|$site| async move { $attack.await }.boxed()))
    };
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        story!("a path that goes up", |site| refused(
            site,
            true,
            "read /data/../secret\nwrite /data/../secret x\nappend /data/x/../../secret x\nremove /data/../secret\n\
             mkdir /data/../new\nlist /data/.."
        )),
        story!("an absolute path", |site| refused(
            site,
            true,
            "read OUT\nread /dataOUT\nwrite OUT x\nappend OUT x\nremove OUT\nread //data/../../../OUT\nlist /"
        )),
        story!("links that lead out, left there by the host", |site| links(site)),
        story!("a link to the file system's root, made by the guest", |site| async {
            let place = Place::new()?;
            let commands = "symlink / root\nsymlink OUT out\nsymlink ../secret up\nread /data/out\nread /data/up\n\
                            write /data/up x\nlist /data/root\nread /data/rootOUT";
            let out = place.0.path().join("secret").display().to_string();
            let answers = place.tell(site, true, &commands.replace("OUT", &out)).await?;
            place.is_contained()?;
            let is_refused = answers.len() == 8 && answers[3..].iter().all(|answer| answer.starts_with("error "));
            if is_refused { Ok(()) } else { Err(format!("{answers:?}")) }
        }),
        story!("a file moved out and one moved in", |site| refused(
            site,
            true,
            "rename /data/f /data/../f\nrename /data/../secret /data/got\nrename /data/f OUT\nrename OUT /data/got\n\
             rename /data/f /other/f"
        )),
        story!("hard links across the border", |site| refused(
            site,
            true,
            "link /data/../secret /data/got\nlink OUT /data/got\nlink /data/f /data/../f\nlink /data/f OUT\n\
             link /data/f /other/f"
        )),
        story!("changes to a folder that is for reading", |site| refused(
            site,
            false,
            "write /data/f x\nwrite /data/new x\nappend /data/f x\nsize /data/f 0\ntruncate f\nat /data/f 0 x\n\
             fill /data/g 10\nremove /data/f\nmkdir /data/d\nrename /data/f /data/g\nlink /data/f /data/g\nsymlink f g"
        )),
        story!("a disk filled with one file", |site| bounded(
            site,
            &[("fill /data/a 100000000", FAILED), ("append /data/f x", "done")]
        )),
        story!("a disk filled with holes", |site| bounded(
            site,
            &[("size /data/f 1099511627776", "error StorageFull"), ("at /data/f 4611686018427387904 x", FAILED),]
        )),
        story!("a disk filled with files of nothing", |site| bounded(
            site,
            &[("files /data/n 100000", "49 StorageFull"), ("mkdir /data/d", "error StorageFull")]
        )),
        story!("folders in folders without end", |site| bounded(site, &[("folders /data 100000", "49 StorageFull")])),
        story!("files that are removed and kept open", |site| bounded(
            site,
            &[("hold /data/a 900000", "done"), ("hold /data/b 900000", FAILED), ("hold /data/c 900000", FAILED),]
        )),
        story!("thousands of handles to one file", |site| async {
            let place = Place::new()?;
            // The guest is ended where it has more handles than it may.
            let answers = place.tell(site, true, "open /data/f 100000").await?;
            place.is_contained()?;
            match answers.first() {
                Some(answer) if !answer.starts_with("error ") => Err(answer.clone()),
                _ => Ok(()),
            }
        }),
    ]
}

/// What is behind links that a careless host left in the folder.
async fn links(site: &Site) -> Result<(), String> {
    let place = Place::new()?;
    let secret = place.0.path().join("secret");
    let mut commands = Vec::new();
    for (name, target) in
        [("absolute", secret.as_path()), ("relative", Path::new("../secret")), ("up", Path::new(".."))]
    {
        std::os::unix::fs::symlink(target, place.0.path().join("inside").join(name)).map_err(|e| e.to_string())?;
        let path = if name == "up" { "/data/up/secret".to_owned() } else { format!("/data/{name}") };
        commands.extend([format!("read {path}"), format!("append {path} x"), format!("size {path} 0")]);
    }
    for write in [false, true] {
        let answers = place.tell(site, write, &commands.join("\n")).await?;
        place.is_contained()?;
        if answers.len() != commands.len() || answers.iter().any(|answer| !answer.starts_with("error ")) {
            return Err(format!("{answers:?}"));
        }
    }
    Ok(())
}

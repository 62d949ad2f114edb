//! How long functions take on devices.

use std::collections::BTreeMap;

use super::Distribution;

/// Times of functions on devices, as fitted to measurements.
#[derive(Clone, Debug, Default)]
pub struct Profiles {
    devices: Vec<String>,
    functions: Vec<String>,
    exec: BTreeMap<(u16, u16), Distribution>,
    /// By whether the image was on the device already.
    startup: BTreeMap<(u16, u16, bool), Distribution>,
    /// Bytes by function and architecture.
    images: BTreeMap<(u16, String), u64>,
}

fn position(names: &mut Vec<String>, name: &str) -> u16 {
    let at = names.iter().position(|other| other == name).unwrap_or_else(|| {
        names.push(name.into());
        names.len() - 1
    });
    u16::try_from(at).expect("the tables have some tens of names")
}

/// Floats of a row from column `from`: min, max, (name of the distribution), sigma, loc, scale.
fn fit(fields: &[&str]) -> Option<Distribution> {
    let number = |at: usize| fields.get(at)?.trim().parse::<f64>().ok();
    let (min, max) = (number(0)?, number(1)?);
    Some(Distribution::LogNormal { sigma: number(3)?, loc: number(4)?, scale: number(5)?, min, max })
}

/// At 100 Mbit/s images were pulled while the start-up times of 2021 were measured, in bytes per second.
const MEASURED_AT: f64 = 12.5e6;

impl Profiles {
    /// Of the evaluation in FGCS 2021: pre-processing, training and serving of a model on a Raspberry Pi, a TX2, a NUC and
    /// a virtual machine.
    #[must_use]
    pub fn fgcs21() -> Self {
        let mut profiles = Self::default();
        for line in include_str!("../../data/fgcs21/exec.csv").lines().skip(1) {
            let fields: Vec<&str> = line.split(',').collect();
            let mut key = fields[0].split('|');
            let (Some(device), Some(image), Some(fit)) = (key.next(), key.next(), fit(&fields[1..])) else { continue };
            profiles.set_exec(device, image.rsplit('/').next().unwrap_or(image), fit);
        }
        for line in include_str!("../../data/fgcs21/startup.csv").lines().skip(1) {
            let fields: Vec<&str> = line.split(',').collect();
            let mut key = fields[0].split('|');
            let (Some(device), Some(image), Some(fit)) = (key.next(), key.next(), fit(&fields[1..])) else { continue };
            let image = image.rsplit('/').next().unwrap_or(image);
            let present = key.next() != Some("False");
            let key = (position(&mut profiles.devices, device), position(&mut profiles.functions, image), present);
            profiles.startup.insert(key, fit);
        }
        for (function, arm, arm64, amd64) in [
            ("ml-wf-1-pre", 465_830_200, 540_391_110, 533_323_136),
            ("ml-wf-2-train", 519_336_111, 594_174_340, 550_683_347),
            ("ml-wf-3-serve", 511_888_808, 590_989_596, 589_680_790),
        ] {
            for (arch, bytes) in [("arm", arm), ("arm64", arm64), ("amd64", amd64)] {
                profiles.set_image(function, arch, bytes);
            }
        }
        profiles
    }

    /// Of ten devices and twelve functions (Raith 2021). Start-up times are not in it.
    #[must_use]
    pub fn ten_devices() -> Self {
        let mut profiles = Self::default();
        for line in include_str!("../../data/raith21/exec.csv").lines().skip(1) {
            let fields: Vec<&str> = line.split(',').collect();
            if let (&[device, function, ..], Some(fit)) = (fields.as_slice(), fit(fields.get(2..).unwrap_or_default()))
            {
                profiles.set_exec(device, function, fit);
            }
        }
        for line in include_str!("../../data/raith21/images.csv").lines().skip(1) {
            let mut fields = line.split(',');
            let (Some(function), Some(size), Some(arch)) = (fields.next(), fields.next(), fields.next()) else {
                continue;
            };
            // The same sizes stand there under several names of one architecture.
            let (Ok(mb), "arm" | "arm64" | "amd64") = (size.trim_end_matches('M').parse::<u64>(), arch) else {
                continue;
            };
            profiles.set_image(function, arch, mb * 1_000_000);
        }
        profiles
    }

    /// Says how long a function takes on a device.
    pub fn set_exec(&mut self, device: &str, function: &str, takes: Distribution) {
        let key = (position(&mut self.devices, device), position(&mut self.functions, function));
        self.exec.insert(key, takes);
    }

    /// Says how large a function's image is for an architecture.
    pub fn set_image(&mut self, function: &str, arch: &str, bytes: u64) {
        let function = position(&mut self.functions, function);
        self.images.insert((function, arch.into()), bytes);
    }

    /// The position of a function; `None` if nothing is known of it.
    #[must_use]
    pub fn function(&self, name: &str) -> Option<u16> {
        self.functions.iter().position(|other| other == name).map(|at| at as u16)
    }

    /// The position of a device; `None` if nothing is known of it.
    #[must_use]
    pub fn device(&self, name: &str) -> Option<u16> {
        self.devices.iter().position(|other| other == name).map(|at| at as u16)
    }

    /// Names of the functions, by position.
    #[must_use]
    pub fn functions(&self) -> &[String] {
        &self.functions
    }

    /// Names of the devices, by position.
    #[must_use]
    pub fn devices(&self) -> &[String] {
        &self.devices
    }

    /// How long a function takes on a device; `None` where it does not run.
    #[must_use]
    pub fn exec(&self, device: u16, function: u16) -> Option<&Distribution> {
        self.exec.get(&(device, function))
    }

    /// How long an instance takes to start on a device besides pulling its image, and what of it went into the pull when
    /// that was measured; `None` where it is not known.
    #[must_use]
    pub fn startup(&self, device: u16, function: u16, present: bool) -> Option<&Distribution> {
        self.startup.get(&(device, function, present))
    }

    /// Seconds of a measured start with a pull that were the pull's: they are taken off what is drawn.
    #[must_use]
    pub fn pull_in_startup(image_bytes: f64) -> f64 {
        image_bytes / MEASURED_AT
    }

    /// Bytes of a function's image for an architecture, or 0.
    #[must_use]
    pub fn image(&self, function: u16, arch: &str) -> f64 {
        self.images.get(&(function, arch.to_owned())).map_or(0.0, |bytes| *bytes as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_have_what_their_readme_says() {
        let ten = Profiles::ten_devices();
        assert_eq!(ten.exec.len(), 77);
        assert_eq!(ten.devices().len(), 10);
        assert!(ten.exec.values().all(Distribution::is_sound));
        let fgcs = Profiles::fgcs21();
        assert_eq!((fgcs.exec.len(), fgcs.startup.len()), (14, 27));
        let (pi, tegra) = (fgcs.device("pi").unwrap(), fgcs.device("tegra").unwrap());
        let (pre, train) = (fgcs.function("ml-wf-1-pre").unwrap(), fgcs.function("ml-wf-2-train").unwrap());
        assert!(fgcs.exec(pi, train).is_none(), "training does not run on a Raspberry Pi");
        let faster = fgcs.exec(pi, pre).unwrap().mean() / fgcs.exec(tegra, pre).unwrap().mean();
        assert!((100.0..150.0).contains(&faster), "{faster}");
        assert_eq!(fgcs.image(pre, "arm64"), 540_391_110.0);
    }
}

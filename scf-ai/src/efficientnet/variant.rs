//! The variants of the family and how their sizes follow from the first one's.

use serde::{Deserialize, Serialize};

use crate::kernel::{MbConvShape, same};

/// A network of the EfficientNet-Lite family: image classification for edge devices, each variant more accurate and
/// slower than the one before.
///
/// The networks are those of Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
/// ICML 2019, table 1 and section 3.3, without squeeze-and-excitation and with ReLU6, as its authors' `lite` variants:
/// stem, head and the number of blocks of the first and last group are the same in all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum EfficientNetLite {
    /// 224x224 pixels, 18 blocks, 4.7 million weights.
    Lite0,
    /// 240x240 pixels, 23 blocks, 5.4 million weights.
    Lite1,
    /// 260x260 pixels, 23 blocks, 6.1 million weights.
    Lite2,
}

/// Channels after the stem.
pub(super) const STEM: usize = 32;
/// Repeats, kernel, stride of the first, expansion, channels in and out of each group of blocks of Lite0.
const GROUPS: [(usize, usize, usize, usize, usize, usize); 7] = [
    (1, 3, 1, 1, STEM, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
];

impl EfficientNetLite {
    /// Every variant, the fastest first.
    pub const ALL: [Self; 3] = [Self::Lite0, Self::Lite1, Self::Lite2];

    /// Name of the model that a graph of this variant has.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lite0 => "efficientnet-lite0",
            Self::Lite1 => "efficientnet-lite1",
            Self::Lite2 => "efficientnet-lite2",
        }
    }

    /// Height and width of the input in pixels.
    #[must_use]
    pub const fn side(self) -> usize {
        match self {
            Self::Lite0 => 224,
            Self::Lite1 => 240,
            Self::Lite2 => 260,
        }
    }

    /// By how many tenths of Lite0's the groups are wide and deep.
    const fn tenths(self) -> (usize, usize) {
        match self {
            Self::Lite0 => (10, 10),
            Self::Lite1 => (10, 11),
            Self::Lite2 => (11, 12),
        }
    }

    /// The inverted residual blocks, between stem and head.
    pub(super) fn shapes(self) -> impl Iterator<Item = MbConvShape> {
        let (wider, deeper) = self.tenths();
        // Channels are a multiple of 8, the nearest one.
        let channels = move |lite0: usize| if lite0 == STEM { STEM } else { (lite0 * wider + 40) / 80 * 8 };
        let groups =
            GROUPS.into_iter().enumerate().flat_map(move |(i, (repeats, kernel, stride, expand, cin, cout))| {
                let ends = i == 0 || i == GROUPS.len() - 1;
                let repeats = if ends { repeats } else { (repeats * deeper).div_ceil(10) };
                let (cin, cout) = (channels(cin), channels(cout));
                (0..repeats).map(move |i| {
                    if i == 0 { (kernel, stride, expand, cin, cout) } else { (kernel, 1, expand, cout, cout) }
                })
            });
        let (_, side) = same(self.side(), 3, 2);
        groups.scan(side, |side, (kernel, stride, expand, cin, cout)| {
            let shape = MbConvShape { height: *side, width: *side, cin, expand, cout, kernel, stride };
            *side = shape.output().0;
            Some(shape)
        })
    }
}

//! Which forms lose nothing that counts.

use scf_core::{Activation, BlockGraph, BlockSet, ModelError, WireForm};
use smallvec::SmallVec;

use super::through_wire;
use crate::{codec::CodecError, tensor};

/// How often a network gave the same best score although what was alive at a cut had travelled in a form, measured on
/// inputs of its own kind.
///
/// For networks whose output is scores. A [`SplitModel`](crate::SplitModel) offers a form at a cut only where this is
/// above a guard: of four bits, which break some networks at some places and not others, no block can say by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Agreement {
    forms: Vec<WireForm>,
    /// Of each cut before a block, of each form, the share of inputs.
    shares: Vec<Vec<f64>>,
    inputs: usize,
}

impl Agreement {
    /// Runs `graph` on each of `inputs` whole, and cut before every block with what is alive there in each of `forms`.
    ///
    /// Takes as many runs of half the network as there are inputs, forms and blocks.
    ///
    /// # Errors
    /// A block's [`ModelError`]. A tensor that does not travel in a form, because it is of no floats or has an infinity,
    /// travels exactly there, as it does for a call.
    pub fn measure(graph: &BlockGraph, inputs: &[Activation], forms: &[WireForm]) -> Result<Self, ModelError> {
        let blocks = graph.blocks().len();
        let mut agreed = vec![vec![0usize; forms.len()]; blocks];
        for input in inputs {
            let whole = best(&graph.run(0..blocks, input.clone())?)?;
            let mut here = graph.begin(input.clone());
            for (cut, agreed) in agreed.iter_mut().enumerate() {
                for (form, agreed) in forms.iter().zip(agreed) {
                    let tensors = here.tensors().iter().map(|(tensor, x)| Ok((*tensor, lossy(x, *form)?)));
                    let tensors = tensors.collect::<Result<Vec<_>, ModelError>>()?;
                    let mut there = graph.resume(BlockSet::first(cut), tensors)?;
                    for block in cut..blocks {
                        graph.advance(&mut there, block)?;
                    }
                    let scores = there.into_only();
                    *agreed += usize::from(scores.as_ref().map(best).transpose()? == Some(whole));
                }
                graph.advance(&mut here, cut)?;
            }
        }
        let share = |agreed: Vec<usize>| agreed.iter().map(|&n| n as f64 / inputs.len().max(1) as f64).collect();
        Ok(Self { forms: forms.to_vec(), shares: agreed.into_iter().map(share).collect(), inputs: inputs.len() })
    }

    /// The share of inputs with the same best score when what is alive before block `cut` travels in `form`; `None` where
    /// that was not measured.
    #[must_use]
    pub fn share(&self, cut: usize, form: WireForm) -> Option<f64> {
        let form = self.forms.iter().position(|known| *known == form)?;
        self.shares.get(cut)?.get(form).copied().filter(|_| self.inputs > 0)
    }

    /// Whether `form` was measured.
    pub(crate) fn has(&self, form: WireForm) -> bool {
        self.inputs > 0 && self.forms.contains(&form)
    }

    /// Of each tensor of `graph` the forms, of those measured, that keep at least `guard` of the answers wherever the
    /// tensor is alive.
    pub(crate) fn offered(&self, graph: &BlockGraph, guard: f64) -> Vec<SmallVec<[WireForm; 4]>> {
        let blocks = graph.blocks().len();
        let mut offered: Vec<SmallVec<[WireForm; 4]>> = vec![self.forms.iter().copied().collect(); graph.edges().len()];
        for cut in 0..blocks {
            let kept = |form: &mut WireForm| self.share(cut, *form).is_some_and(|share| share >= guard);
            graph.alive(&BlockSet::first(cut)).iter().for_each(|&tensor| offered[tensor].retain(kept));
        }
        offered
    }
}

fn lossy(activation: &Activation, form: WireForm) -> Result<Activation, ModelError> {
    match through_wire(activation, form) {
        Ok(activation) => Ok(activation),
        Err(CodecError::NotFinite | CodecError::Unsupported { .. }) => Ok(activation.clone()),
        Err(source) => Err(ModelError::Block { block: "wire".to_owned(), source: source.into() }),
    }
}

/// The index of the highest score.
fn best(scores: &Activation) -> Result<usize, ModelError> {
    let highest = |scores: &[f32]| scores.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(i, _)| i);
    let failed =
        |source: scf_core::ActivationError| ModelError::Block { block: "wire".to_owned(), source: source.into() };
    tensor::with_floats(scores, highest).map_err(failed)
}

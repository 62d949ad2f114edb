//! Learns what calls take and keeps what is promised of them.

mod burn;
mod conformal;
mod keeper;
mod learner;
mod regression;
mod runs;

pub use self::{
    burn::{BurnRate, BurnWindow},
    keeper::SloKeeper,
    learner::{CallFeatures, Configuration, Exploration, Learner, Prediction, choose_configuration},
    regression::MOST_FEATURES,
    runs::RunReport,
};

//! How a simulated platform behaves.

/// How a platform behaves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Of all random numbers.
    pub seed: u64,
    /// The run ends when so many requests are done.
    pub invocations: u64,
    /// The run ends at this time at the latest, in seconds.
    pub until: f64,
    /// A replica that may be taken away is, once no request of its function was done for so long, in seconds.
    pub idle: f64,
    /// How often that is looked at, in seconds.
    pub idle_check: f64,
    /// The share of an image that is pulled where another image is already: the rest are layers that both have.
    pub fresh_layers: f64,
    /// What links give of their bandwidth.
    pub goodput: f64,
    /// Whether a node runs as many requests at once as it has cores, the others waiting in order; otherwise one for every
    /// replica.
    pub slots: bool,
    /// Seconds after which a node that does not answer is taken for gone and its replicas are placed again.
    pub suspicion: f64,
    /// Whether a policy is told which image a replica needs. A policy that reckons with the time of one call should not
    /// be: a replica serves thousands, and its image is pulled once.
    pub tells_images: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            seed: 1,
            invocations: u64::MAX,
            until: f64::INFINITY,
            idle: 300.0,
            idle_check: 30.0,
            fresh_layers: 0.1,
            goodput: 0.97,
            slots: false,
            suspicion: 10.0,
            tells_images: true,
        }
    }
}

//! Serverless Computing Fabric.

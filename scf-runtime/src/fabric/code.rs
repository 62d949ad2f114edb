//! Code out of the object store.

use bytes::Bytes;
use scf_core::{ByteSize, Code, Function, read_object};

use super::Inner;
use crate::error::DeployError;

impl Inner {
    /// `function` with the code itself in place of the object that it is kept as.
    pub(super) async fn with_code(&self, mut function: Function) -> Result<Function, DeployError> {
        let Code::Stored { object, export } = &function.code else { return Ok(function) };
        let Some(objects) = &self.objects else {
            return Err(DeployError::NoObjects { function: function.name });
        };
        let (object, export) = (*object, export.clone());
        // Factories do not look inside code to accept it.
        let code = Code::Component { bytes: Bytes::new(), export: export.clone() };
        let mut limit = ByteSize::ZERO;
        for member in self.members.iter().filter(|member| function.needs.allow(&member.node)) {
            limit = limit.max(member.controller.factory_of(&function.name, &code)?.code_limit());
        }
        match read_object(&**objects, object, limit).await {
            Ok(bytes) => function.code = Code::Component { bytes, export },
            Err(source) => return Err(DeployError::Code { function: function.name, object, source }),
        }
        Ok(function)
    }
}

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
        let limit = self.code_limit(&function, &export)?;
        match read_object(&**objects, object, limit).await {
            Ok(bytes) => function.code = Code::Component { bytes, export },
            Err(source) => return Err(DeployError::Code { function: function.name, object, source }),
        }
        Ok(function)
    }

    /// A function of another process with its code, where this one takes it.
    pub(super) async fn admitted(&self, mut function: Function) -> Result<Function, DeployError> {
        let policy = &self.guests.policy;
        policy.admit(&function)?;
        let stored = match &function.code {
            Code::Stored { object, export } => Some((*object, export.clone())),
            _ => None,
        };
        if let (Some((object, export)), Some(puller)) = (stored, &self.puller) {
            let limit = self.code_limit(&function, &export)?.min(policy.most_code());
            match puller.pull(object, limit).await {
                Ok(bytes) => function.code = Code::Component { bytes, export },
                Err(source) => return Err(DeployError::Code { function: function.name, object, source }),
            }
        }
        let function = self.with_code(function).await?;
        policy.admit_code(&function)?;
        Ok(function)
    }

    /// The largest component that those members take who may run the function.
    fn code_limit(&self, function: &Function, export: &str) -> Result<ByteSize, DeployError> {
        // Factories do not look inside code to accept it.
        let code = Code::Component { bytes: Bytes::new(), export: export.to_owned() };
        let mut allowed = self.members.iter().filter(|member| function.needs.allow(&member.node));
        allowed.try_fold(ByteSize::ZERO, |limit, member| {
            Ok(limit.max(member.controller.factory_of(&function.name, &code)?.code_limit()))
        })
    }
}

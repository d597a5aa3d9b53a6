//! One module per wire protocol. No dialect knows another.

pub mod openai_chat;
pub mod openai_responses;

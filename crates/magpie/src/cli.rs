//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::commands::{AbQuestion, KeysCommand, Question, UsageQuestion};
use crate::version::VERSION;

/// Magpie (鹊桥): one OpenAI-compatible API in front of every AI provider.
#[derive(Debug, Parser)]
#[command(
    name = "magpie",
    version = VERSION,
    after_help = "\
Start with nothing:        magpie
Start with a provider:     XINGHE_API_KEY=... magpie
Ask it:                    curl http://127.0.0.1:8000/v1/chat/completions \\
                             -d '{\"model\": \"echo\", \"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}'
Configure it:              magpie check magpie.yaml && magpie run --config magpie.yaml
Documentation while it runs: http://127.0.0.1:8000/docs"
)]
pub(crate) struct Cli {
    /// What to do; `run` if nothing is said.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// The configuration file. Default: ./magpie.yaml if it is there, else the environment alone.
    #[arg(long, short, global = true, value_name = "FILE", env = "MAGPIE_CONFIG")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve the API until told to stop (SIGTERM or Ctrl-C). SIGHUP, or a change of the file, reads
    /// the configuration again.
    Run,
    /// Check a configuration file and show every problem, each with its place and a hint.
    Check {
        /// The file. Default: the one that `magpie run` would read.
        file: Option<PathBuf>,
    },
    /// List the built-in provider profiles, the variables that set them up, and which are set up.
    Providers,
    /// List the models that can be asked for by name.
    Models,
    /// Show where a request for a model would go and why, without sending it.
    Explain(Box<Question>),
    /// Ask a model from the terminal; the answer streams as it comes.
    Chat {
        /// The model, such as `echo`, `default` or `xinghe/ernie-4.5-turbo-128k`.
        model: String,
        /// What to ask.
        prompt: String,
    },
    /// Make, list, rotate and revoke virtual keys.
    Keys {
        /// What to do.
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Show what was used and what it cost.
    Usage(UsageQuestion),
    /// Compare the variants of a model that is split, with intervals that stay valid however often
    /// one looks.
    Ab(AbQuestion),
    /// Print the JSON Schema of the configuration, for editors.
    Schema,
    /// Print the version.
    Version,
}

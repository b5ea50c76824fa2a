//! `spantap [OPTIONS] -- COMMAND [ARGS]…` and its long form `spantap run`.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};

use crate::cli::{ServerCommand, exit_with, help};
use crate::settings::{DECLARATIONS, FlagValue, GivenSettings, SettingDeclaration, SettingFlag};

mod start;

pub(super) use start::session_id;

#[derive(Clone, Debug, Default, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub(crate) given: GivenSettings,
    /// Print more on stderr, and write spantap's own diagnostics to a file
    #[arg(short, long, action = ArgAction::Count)]
    verbose: u8,
    /// Mark of `spantap wrap`; ignored
    #[arg(long, value_name = "MARK", hide = true)]
    wrapped: Option<String>,
    #[command(flatten)]
    pub(crate) server_command: ServerCommand,
}

impl RunArgs {
    /// Becomes the proxy and ends as the server ends. Fails only before the server is started: with status 2 if
    /// the command is missing, with status 125 if `--strict` is set and a part of the set-up fails.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        if self.server_command.command.is_empty() {
            return Err(exit_with(
                2,
                anyhow::anyhow!("no server command"),
                "put `--` before the command: spantap -- npx -y @modelcontextprotocol/server-filesystem /data",
            ));
        }
        start::run(self)
    }
}

const OTLP_SET: &str = "otlp-set";
const CONFIG: &str = "config";

/// The flags are those of the declared settings.
impl Args for GivenSettings {
    fn augment_args(command: Command) -> Command {
        add_flags(command, true)
    }

    /// Adds the flags without their help texts, which clap would copy. `cli` parses this way when a server starts,
    /// because the start needs no help.
    fn augment_args_for_update(command: Command) -> Command {
        add_flags(command, false)
    }
}

fn add_flags(command: Command, has_help: bool) -> Command {
    let with = |argument: Arg, help: &dyn Fn() -> String| match has_help {
        true => argument.help(help()),
        false => argument,
    };
    let flag = |setting: &'static SettingDeclaration| {
        let argument = Arg::new(setting.name);
        Some(match setting.flag {
            SettingFlag::None | SettingFlag::OfCollect { .. } => return None,
            SettingFlag::Switch { long, help, .. } => {
                with(argument.long(long).action(ArgAction::SetTrue), &|| help.to_owned())
            }
            SettingFlag::Value { long, value_name } => {
                let argument = argument.long(long).value_name(value_name);
                let argument = match setting.flag_value {
                    FlagValue::Path => argument.value_parser(value_parser!(OsString)),
                    FlagValue::Text => argument,
                    FlagValue::Checked(check) => {
                        let argument =
                            argument.value_parser(move |text: &str| check(text).map(|()| text.to_owned()));
                        // `-1s` is a wrong value, and not an unknown flag.
                        argument.allow_hyphen_values(true)
                    }
                    FlagValue::Word(words) => argument.value_parser(PossibleValuesParser::new(words())),
                };
                with(argument, &|| help::of(setting.name))
            }
        })
    };
    let otlp_set = Arg::new(OTLP_SET).long(OTLP_SET).value_name("KEY=VALUE").action(ArgAction::Append);
    let config = Arg::new(CONFIG).long(CONFIG).value_name("FILE").value_parser(value_parser!(PathBuf));
    command
        .args(DECLARATIONS.iter().filter_map(flag))
        .args([with(otlp_set, &|| help::OTLP_SET.to_owned()), with(config, &|| help::CONFIG.to_owned())])
}

impl FromArgMatches for GivenSettings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<GivenSettings, clap::Error> {
        let mut given = GivenSettings::default();
        given.update_from_arg_matches(matches)?;
        Ok(given)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for setting in DECLARATIONS {
            let typed = || matches.value_source(setting.name) == Some(ValueSource::CommandLine);
            match setting.flag {
                SettingFlag::Switch { value, .. } if typed() => (setting.give)(self, OsStr::new(value)),
                SettingFlag::Value { .. } => {
                    if let Some(text) = matches.get_raw(setting.name).and_then(|mut texts| texts.next()) {
                        (setting.give)(self, text);
                    }
                }
                SettingFlag::None | SettingFlag::Switch { .. } | SettingFlag::OfCollect { .. } => {}
            }
        }
        self.otlp_set.extend(matches.get_many::<String>(OTLP_SET).unwrap_or_default().cloned());
        self.config = matches.get_one(CONFIG).cloned();
        Ok(())
    }
}

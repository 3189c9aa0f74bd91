import { type Config, loadConfig } from '../../lib/config.ts';
import { describeError, UpdateError } from '../../lib/errors.ts';
import { shellCommand } from '../../lib/command-hint.ts';
import { type Check, checkOf } from '../../lib/health/check.ts';
import { defineRequestCommand } from '../cli/define-command.ts';
import { membershipFault } from '../cli/operator.ts';
import { print, printJson } from '../cli/output.ts';
import { help, parseCommand } from './arguments.ts';
import { configFileOf, examine } from './examine.ts';
import { doctorJson, doctorLines, doctorStatus } from './report.ts';

/** Checks this node, and names the commands that mend it. */
export const doctor = defineRequestCommand('doctor', help, parseCommand, async ({ json }) => {
  const configFile = configFileOf(process.env);
  const config = tryConfig();
  const checks =
    'checks' in config
      ? config.checks
      : [...userChecks(config.config), ...(await examine(config.config, configFile))];
  process.exitCode = doctorStatus(checks);
  if (json) printJson(doctorJson(checks, 'config' in config ? config.config.nodeName : null));
  else print(`${doctorLines(checks).join('\n')}\n`);
});

/** The check of a user to whom most of the node is closed, and who cannot use it; none for any other. */
function userChecks(config: Config): Check[] {
  const fault = membershipFault(config);
  return fault === undefined ? [] : [checkOf('user', 'this user').fail(fault.what, fault.command)];
}

/** The configuration, or the one check that fails without: every other one rests on it. */
function tryConfig(): { config: Config } | { checks: Check[] } {
  try {
    return { config: loadConfig(process.env) };
  } catch (error) {
    if (!(error instanceof UpdateError)) throw error;
    const { fail } = checkOf('configuration', 'configuration');
    const edit = shellCommand('editor', configFileOf(process.env));
    return { checks: [fail(describeError(error), edit)] };
  }
}

using System.CommandLine;
using System.CommandLine.Invocation;
using System.CommandLine.Parsing;
using Bgsnap.NodeAgent.Processes;

namespace Bgsnap.NodeAgent.Cli;

/// <summary>Checks that need more than one option, and the error output when one fails.</summary>
internal static class CommandChecks
{
    /// <summary>Adds a check that may read every option.</summary>
    /// <remarks>
    /// Such a check also runs when an option has no value, or two: reading it then throws, and the parser itself reports which option is
    /// wrong.
    /// </remarks>
    internal static void Check(this Command command, Action<CommandResult> check) =>
        command.Validators.Add(result =>
        {
            try
            {
                check(result);
            }
            catch (InvalidOperationException) { }
        });

    /// <summary>
    /// Runs the command. A usage error goes to standard error with a pointer to the help, and does not print the whole help to standard
    /// output.
    /// </summary>
    internal static async Task<int> RunAsync(ParseResult parsed)
    {
        if (parsed.Action is not ParseErrorAction)
            return await parsed.InvokeAsync();
        foreach (ParseError error in parsed.Errors)
            await Console.Error.WriteLineAsync(error.Message);
        string command = string.Join(' ', PathOf(parsed.CommandResult.Command));
        await Console.Error.WriteLineAsync($"'{command} --help' lists its options.");
        return ExitCode.Usage;
    }

    private static IEnumerable<string> PathOf(Symbol command) => [.. command.Parents.Take(1).SelectMany(PathOf), command.Name];
}

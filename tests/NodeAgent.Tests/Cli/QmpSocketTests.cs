using System.CommandLine;
using Bgsnap.NodeAgent.Cli;

namespace Bgsnap.NodeAgent.Tests.Cli;

public sealed class QmpSocketTests
{
    [Theory]
    [InlineData("tcp:localhost:4444")]
    [InlineData("telnet:127.0.0.1:4444,server")]
    public void Only_unix_sockets_are_taken(string given)
    {
        foreach (ParseResult parsed in Parse(given))
        {
            string error = Assert.Single(parsed.Errors).Message;
            Assert.Contains(given, error, StringComparison.Ordinal);
            Assert.Contains("-qmp unix:PATH", error, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData("/run/qmp", "/run/qmp")]
    [InlineData("qmp.sock", "qmp.sock")]
    [InlineData("unix:/run/qmp,server=on,wait=off", "/run/qmp")]
    public void Paths_may_be_in_QEMUs_words(string given, string path)
    {
        foreach (ParseResult parsed in Parse(given))
        {
            Assert.Empty(parsed.Errors);
            Assert.Equal(path, parsed.GetValue<string>("--qmp"));
        }
    }

    private static ParseResult[] Parse(string qmp) =>
        [CaptureCommand.Create([]).Parse(["--qmp", qmp, "--output", "x"]), RestoreCommand.Create([]).Parse(["x", "--qmp", qmp])];
}

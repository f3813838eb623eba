using System.Text.Json;
using Bgsnap.NodeAgent.Cli;
using Bgsnap.NodeAgent.Processes;
using Bgsnap.Qemu.Qmp;

namespace Bgsnap.NodeAgent.Tests.Qmp;

/// <summary>
/// The client either understands QEMU's answer or throws a <see cref="QmpException"/> that names the command and what is missing.
/// </summary>
public class QmpValueTests
{
    private static readonly string[] Odd =
    [
        "null",
        "true",
        "-1",
        "1e999",
        "0.5",
        "99999999999999999999",
        "\"\"",
        "[]",
        "[null]",
        "[5]",
        "[[]]",
        "[{}]",
        "{}",
        """{"x": null}""",
    ];

    /// <summary>Parses a test's JSON.</summary>
    internal static QmpValue Of(string json) => new(JsonDocument.Parse(json).RootElement, "query-x", "return");

    [Fact]
    public void What_is_as_it_should_be_is_read()
    {
        QmpValue value = Of(
            """{"text": "a", "yes": true, "int": -7, "long": 5000000000, "big": 18446744073709551615, "list": [1, 2], "nothing": null, "v": {"major": 10, "minor": 0, "micro": 2}}"""
        );
        Assert.Equal(
            ("a", true, -7, 5000000000),
            (
                value.GetProperty("text").GetString(),
                value.GetProperty("yes").GetBoolean(),
                value.GetProperty("int").GetInt32(),
                value.GetProperty("long").GetInt64()
            )
        );
        Assert.Equal(ulong.MaxValue, value.GetProperty("big").GetUInt64());
        Assert.Equal(
            (2, 3),
            (value.GetProperty("list").GetArrayLength(), value.GetProperty("list").EnumerateArray().Sum(e => e.GetInt32()))
        );
        Assert.Equal(new Version(10, 0, 2), value.GetProperty("v").GetVersion());
        Assert.False(value.TryGetProperty("nothing", out _) || value.TryGetProperty("none", out _));
    }

    [Fact]
    public void Whatever_is_asked_of_whatever_there_is_nothing_else_is_thrown()
    {
        Action<QmpValue>[] questions =
        [
            v => _ = v.GetString(),
            v => _ = v.GetBoolean(),
            v => _ = v.GetInt32(),
            v => _ = v.GetInt64(),
            v => _ = v.GetUInt64(),
            v => _ = v.GetVersion(),
            v => _ = v.GetArrayLength(),
            v => _ = v.EnumerateArray().Select(e => e.GetProperty("x").GetString()).ToArray(),
            v => _ = v.GetProperty("x").GetProperty("y"),
            v => _ = v.TryGetProperty("x", out _),
        ];
        foreach (Action<QmpValue> ask in questions)
        {
            foreach (string json in Odd)
                AnswersOrIsOdd(() => ask(Of(json)));
            AnswersOrIsOdd(() => ask(default));
        }
    }

    [Theory]
    [InlineData("""{"return": [{"inserted": {"file": "x"}}]}""", "query-block: QEMU gave an invalid answer: \"inserted\" has no \"image\"")]
    [InlineData("""{"return": {}}""", "query-block: QEMU gave an invalid answer: \"return\" is not of the kind Array")]
    [InlineData("{}", "query-block: QEMU gave an invalid answer: \"answer\" has no \"return\"")]
    public void The_command_and_what_was_missing_are_named(string answer, string sentence)
    {
        using FakeQmpServer server = FakeQmpServer.Greeted(s =>
        {
            s.ReadCommand();
            s.Send(answer + "\r\n");
            s.Keep();
        });
        using QmpClient qmp = QmpClient.Connect(server.Path);
        QmpException e = Assert.Throws<QmpException>(() =>
        {
            using QmpAnswer block = qmp.Execute("query-block");
            _ = block.Return.EnumerateArray().Single().GetProperty("inserted").GetProperty("image");
        });
        Assert.StartsWith(sentence, e.Message, StringComparison.Ordinal);
        Assert.Equal(("QemuAnswersOddly", ExitCode.Failed), (Failure.Describe(e).Reason, Failure.Describe(e).ExitCode));
    }

    private static void AnswersOrIsOdd(Action ask)
    {
        QmpException? e = Record.Exception(ask) is { } thrown ? Assert.IsType<QmpException>(thrown) : null;
        Assert.True(e is null || e.IsOdd);
    }
}

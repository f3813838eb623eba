using System.Diagnostics;
using System.Text.Json;
using Bgsnap.Linux;
using Bgsnap.Qemu.Qmp;

namespace Bgsnap.NodeAgent.Tests.Qmp;

public sealed class QmpClientTests
{
    private const string Stop = """{"timestamp": {"seconds": 1700000000, "microseconds": 250001}, "event": "STOP"}""" + "\r\n";
    private const string Balloon =
        """{"timestamp": {"seconds": 1700000000, "microseconds": 250002}, "event": "BALLOON_CHANGE", "data": {"actual": 64}}""" + "\r\n";

    [Fact]
    public void It_greets_and_leaves_the_negotiation()
    {
        using FakeQmpServer server = FakeQmpServer.Greeted(s => s.Keep());
        using (QmpClient qmp = QmpClient.Connect(server.Path))
        {
            Assert.Equal(new Version(7, 2, 22), qmp.QemuVersion);
            Assert.Equal(Environment.ProcessId, qmp.PeerPid);
        }
        using JsonDocument sent = JsonDocument.Parse(server.Received[0]);
        Assert.Equal("qmp_capabilities", sent.RootElement.GetProperty("execute").GetString());
        Assert.StartsWith("bgsnap-", sent.RootElement.GetProperty("id").GetString(), StringComparison.Ordinal);
    }

    [Fact]
    public void A_flood_of_events_breaks_the_conversation_off()
    {
        using FakeQmpServer server = FakeQmpServer.Greeted(s =>
        {
            for (string many = string.Concat(Enumerable.Repeat(Balloon, 500)); ; s.Send(many)) { }
        });
        using QmpClient qmp = QmpClient.Connect(server.Path);
        QmpException e = Assert.Throws<QmpException>(() => qmp.Execute("query-status", timeout: TimeSpan.FromMinutes(1)).Dispose());
        Assert.True(e.Floods && !e.TimedOut, e.Message);
    }

    [Fact]
    public async Task A_flood_of_what_nobody_asked_for_does_not_outlast_the_time_for_an_answer()
    {
        using FakeQmpServer server = FakeQmpServer.Greeted(s =>
        {
            for (string many = string.Concat(Enumerable.Repeat("{\"return\": {}, \"id\": \"another\"}\r\n", 500)); ; s.Send(many)) { }
        });
        using QmpClient qmp = QmpClient.Connect(server.Path);
        Task<QmpException> failing = Task.Run(() =>
            Assert.Throws<QmpException>(() => qmp.Execute("query-status", timeout: TimeSpan.FromSeconds(1)).Dispose())
        );
        QmpException failure = await failing.WaitAsync(TimeSpan.FromSeconds(30));
        Assert.True(failure.TimedOut, failure.Message);
        _ = qmp.TakeEvents(); // ends too
    }

    [Fact]
    public void An_answer_to_a_client_that_died_is_not_taken_for_ours()
    {
        using FakeQmpServer server = FakeQmpServer.Greeted(s =>
        {
            s.ReadCommand();
            s.Send(
                """{"id": "bgsnap-1-of-someone-else", "error": {"class": "GenericError", "desc": "saving Xen device state failed"}}"""
                    + "\r\n"
            );
            s.Send("""{"return": {"running": true}}""" + "\r\n");
            s.Keep();
        });
        using QmpClient qmp = QmpClient.Connect(server.Path);
        using QmpAnswer answer = qmp.Execute("query-status");
        Assert.True(answer.Return.GetProperty("running").GetBoolean());
    }

    [Fact]
    public void A_command_carries_its_arguments_and_gives_its_answer()
    {
        using FakeQmpServer server = FakeQmpServer.Greeted(s =>
        {
            s.ReadCommand();
            s.Send("""{"return": "pc-i440fx-7.2-machine"}""" + "\r\n");
            s.Keep();
        });
        using QmpClient qmp = QmpClient.Connect(server.Path);
        using QmpAnswer answer = qmp.Execute("qom-get", QmpJson.Object(("path", "/machine"), ("property", "a \"b\"")));
        Assert.Equal("pc-i440fx-7.2-machine", answer.Return.GetString());
        using JsonDocument sent = JsonDocument.Parse(server.Received[1]);
        Assert.Equal("qom-get", sent.RootElement.GetProperty("execute").GetString());
        Assert.Equal("a \"b\"", sent.RootElement.GetProperty("arguments").GetProperty("property").GetString());
    }

    [Fact]
    public void Events_between_greeting_and_answers_are_kept_in_order()
    {
        using FakeQmpServer server = new(s =>
        {
            s.Send(FakeQmpServer.Greeting);
            s.ReadCommand();
            s.Send(Stop + FakeQmpServer.Empty);
            s.ReadCommand();
            s.Send(Balloon + FakeQmpServer.Empty + Stop);
            s.Keep();
        });
        using QmpClient qmp = QmpClient.Connect(server.Path);
        qmp.Execute("query-status").Dispose();
        Assert.NotNull(qmp.WaitForEvent("BALLOON_CHANGE", TimeSpan.Zero));
        List<QmpEvent> events = [.. qmp.TakeEvents()];
        for (long end = Environment.TickCount64 + 5000; events.Count < 3 && Environment.TickCount64 < end; Thread.Sleep(1))
            events.AddRange(qmp.TakeEvents());
        Assert.Equal(["STOP", "BALLOON_CHANGE", "STOP"], events.Select(e => e.Name));
        Assert.Equal(1_700_000_000_250_001, events[0].Timestamp);
        Assert.Equal(("", """{"actual": 64}"""), (events[0].Data, events[1].Data));
        Assert.Empty(qmp.TakeEvents());
    }

    [Fact]
    public void Messages_may_come_in_pieces()
    {
        using FakeQmpServer server = FakeQmpServer.Greeted(s =>
        {
            s.ReadCommand();
            s.SendByteByByte(Stop + """{"return": {"text": "grün"}}""" + "\r\n");
            s.Keep();
        });
        using QmpClient qmp = QmpClient.Connect(server.Path);
        using QmpAnswer answer = qmp.Execute("query-x");
        Assert.Equal("grün", answer.Return.GetProperty("text").GetString());
        Assert.Equal("STOP", Assert.Single(qmp.TakeEvents()).Name);
    }

    [Fact]
    public void Messages_may_be_laid_out_over_many_lines()
    {
        const string greeting =
            "{\r\n    \"QMP\": {\r\n        \"version\": {\r\n            \"qemu\": {\"micro\": 2, \"minor\": 0, \"major\": 10}\r\n"
            + "        },\r\n        \"capabilities\": [\r\n        ]\r\n    }\r\n}\r\n";
        using FakeQmpServer server = new(s =>
        {
            s.Send(greeting);
            s.ReadCommand();
            s.Send("{\r\n    \"return\": {\r\n    }\r\n}\r\n");
            s.ReadCommand();
            s.SendByteByByte(
                Stop.Replace(", ", ",\r\n    ", StringComparison.Ordinal)
                    + "{\r\n\r\n    \"return\": \"}\\\" {[\\\\\"\r\n}"
                    + "{\"return\": [[1], {\"a\": []}]}\r\n"
            );
            s.ReadCommand();
            s.Keep();
        });
        using QmpClient qmp = QmpClient.Connect(server.Path);
        Assert.Equal(new Version(10, 0, 2), qmp.QemuVersion);
        Assert.Equal("}\" {[\\", qmp.ExecuteHuman("info brackets"));
        Assert.Equal("STOP", Assert.Single(qmp.TakeEvents()).Name);
    }

    [Theory]
    [InlineData("[1]")]
    [InlineData("{\"return\": tru}")]
    [InlineData("{\"return\": {]}")]
    [InlineData("}")]
    public void What_is_no_JSON_object_ends_the_connection(string sent)
    {
        using FakeQmpServer server = FakeQmpServer.Greeted(s =>
        {
            s.ReadCommand();
            s.Send(sent);
            s.Keep();
        });
        using QmpClient qmp = QmpClient.Connect(server.Path);
        Assert.Contains("not JSON", Assert.Throws<QmpException>(() => qmp.Execute("x")).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void An_answer_may_be_larger_than_the_buffer()
    {
        string large = new('x', 1_000_000);
        using FakeQmpServer server = FakeQmpServer.Greeted(s =>
        {
            s.ReadCommand();
            s.Send($"{{\"return\": \"{large}\"}}\r\n");
            s.ReadCommand();
            s.Send("""{"return": "small"}""" + "\r\n");
            s.Keep();
        });
        using QmpClient qmp = QmpClient.Connect(server.Path);
        Assert.Equal(large, qmp.ExecuteHuman("info all"));
        Assert.Equal("small", qmp.ExecuteHuman("info little"));
    }

    [Fact]
    public void A_refused_command_tells_class_and_reason_and_the_next_one_works()
    {
        using FakeQmpServer server = FakeQmpServer.Greeted(s =>
        {
            s.ReadCommand();
            s.Send("""{"error": {"class": "CommandNotFound", "desc": "The command x has not been found"}}""" + "\r\n");
            s.ReadCommand();
            s.Send(FakeQmpServer.Empty);
            s.Keep();
        });
        using QmpClient qmp = QmpClient.Connect(server.Path);
        QmpException e = Assert.Throws<QmpException>(() => qmp.Execute("x"));
        Assert.Equal("CommandNotFound", e.ErrorClass);
        Assert.Equal("x: The command x has not been found", e.Message);
        qmp.Execute("query-status").Dispose();
    }

    [Fact]
    public void Its_end_is_reported_as_such()
    {
        using FakeQmpServer server = FakeQmpServer.Greeted(s => s.ReadCommand());
        using QmpClient qmp = QmpClient.Connect(server.Path);
        QmpException e = Assert.Throws<QmpException>(() => qmp.Execute("quit"));
        Assert.Null(e.ErrorClass);
        Assert.Contains("closed the connection", e.Message, StringComparison.Ordinal);
        Assert.Contains(server.Path, e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Half_a_message_and_its_end_is_no_answer()
    {
        using FakeQmpServer server = FakeQmpServer.Greeted(s =>
        {
            s.ReadCommand();
            s.Send("""{"return": {""");
        });
        using QmpClient qmp = QmpClient.Connect(server.Path);
        Assert.Contains("closed the connection", Assert.Throws<QmpException>(() => qmp.Execute("x")).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Silence_ends_in_a_message_in_time()
    {
        using FakeQmpServer server = FakeQmpServer.Greeted(s => s.Keep());
        using QmpClient qmp = QmpClient.Connect(server.Path);
        long began = Stopwatch.GetTimestamp();
        QmpException e = Assert.Throws<QmpException>(() => qmp.Execute("query-status", timeout: TimeSpan.FromMilliseconds(200)));
        Assert.Contains("did not answer query-status in time", e.Message, StringComparison.Ordinal);
        Assert.InRange(Stopwatch.GetElapsedTime(began).TotalSeconds, 0.19, 10);
        Assert.Null(qmp.TryReadAnswer("query-status"));
        Assert.Null(qmp.WaitForEvent("STOP", TimeSpan.FromMilliseconds(20)));
    }

    [Fact]
    public void A_socket_that_does_not_greet_is_busy_or_no_QMP()
    {
        using FakeQmpServer server = new(s => s.Keep());
        QmpException e = Assert.Throws<QmpException>(() => QmpClient.Connect(server.Path));
        Assert.Contains("no QMP greeting", e.Message, StringComparison.Ordinal);
        Assert.Contains("another client", e.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("SSH-2.0-OpenSSH_9.2\r\n", "not JSON")]
    [InlineData("{\"hello\": 1}\r\n", "not QEMU's greeting")]
    public void Who_speaks_something_else_is_told_apart(string first, string reason)
    {
        using FakeQmpServer server = new(s =>
        {
            s.Send(first);
            s.Keep();
        });
        Assert.Contains(reason, Assert.Throws<QmpException>(() => QmpClient.Connect(server.Path)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Nobody_there_is_said_as_such() =>
        Assert.Contains(
            "/nonexistent/qmp",
            Assert.Throws<QmpException>(() => QmpClient.Connect("/nonexistent/qmp")).Message,
            StringComparison.Ordinal
        );

    [Fact]
    public void A_path_longer_than_a_socket_address_works()
    {
        using FakeQmpServer server = FakeQmpServer.Greeted(s => s.Keep());
        string deep = Path.Combine(server.Folder, new string('d', 120));
        Directory.CreateSymbolicLink(deep, server.Folder);
        using QmpClient qmp = QmpClient.Connect(Path.Combine(deep, "qmp"));
        Assert.Equal(7, qmp.QemuVersion.Major);
    }

    [Fact]
    public void An_answer_is_taken_without_waiting_when_it_is_there()
    {
        using ManualResetEventSlim go = new();
        using FakeQmpServer server = FakeQmpServer.Greeted(s =>
        {
            s.ReadCommand();
            go.Wait();
            s.Send(Stop + FakeQmpServer.Empty);
            s.Keep();
        });
        using QmpClient qmp = QmpClient.Connect(server.Path);
        qmp.Send("stop");
        Assert.Null(qmp.TryReadAnswer("stop"));
        go.Set();
        QmpAnswer? answer = null;
        for (long end = Environment.TickCount64 + 5000; answer is null && Environment.TickCount64 < end; Thread.Sleep(1))
            answer = qmp.TryReadAnswer("stop");
        Assert.NotNull(answer);
        answer.Dispose();
        Assert.Equal("STOP", Assert.Single(qmp.TakeEvents()).Name);
    }
}

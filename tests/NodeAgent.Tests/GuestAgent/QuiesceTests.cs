using Bgsnap.Engine.Capture;
using Bgsnap.NodeAgent.Tests.Qmp;
using Bgsnap.Qemu;
using Bgsnap.Qemu.GuestAgent;
using Bgsnap.Qemu.Qmp;

namespace Bgsnap.NodeAgent.Tests.GuestAgent;

/// <summary>The outcome of a freeze under each policy: whatever was frozen is thawed.</summary>
public class QuiesceTests
{
    private static readonly TimeSpan Short = TimeSpan.FromMilliseconds(300);

    [Theory]
    [InlineData(QuiescePolicy.IfAvailable)]
    [InlineData(QuiescePolicy.Required)]
    public void Frozen_from_freeze_to_thaw(QuiescePolicy policy)
    {
        using FakeGuestAgent agent = new();
        using Marks marks = new();
        using Quiesce quiesce = new(Options(policy, agent.Path), marks.Qmp, default);

        quiesce.Prepare(running: true);
        Assert.False(agent.Frozen);
        quiesce.Freeze();
        Assert.True(agent.Frozen && marks.IsSet);
        quiesce.Thaw();

        Assert.Equal(QuiesceOutcome.GuestAgent, quiesce.Finish());
        Assert.Null(quiesce.Detail);
        Assert.False(agent.Frozen || marks.IsSet);
        Assert.Equal(1, agent.CountOf("guest-fsfreeze-thaw"));
    }

    [Fact]
    public void A_second_engine_finds_it_frozen()
    {
        using FakeGuestAgent agent = new();
        using Marks marks = new();
        using Quiesce quiesce = new(Options(QuiescePolicy.Required, agent.Path), marks.Qmp, default);

        quiesce.Prepare(running: true);
        quiesce.Freeze();
        quiesce.Freeze();
        quiesce.Thaw();

        Assert.Equal(QuiesceOutcome.GuestAgent, quiesce.Finish());
    }

    [Fact]
    public void An_exception_in_between_thaws()
    {
        using FakeGuestAgent agent = new();
        using Marks marks = new();
        using (Quiesce quiesce = new(Options(QuiescePolicy.IfAvailable, agent.Path), marks.Qmp, default))
        {
            quiesce.Prepare(running: true);
            quiesce.Freeze();
        }

        Assert.False(agent.Frozen || marks.IsSet);
    }

    [Fact]
    public void A_thaw_that_gets_no_answer_is_tried_again()
    {
        int thaws = 0;
        using FakeGuestAgent agent = new(c => c == "guest-fsfreeze-thaw" && thaws++ == 0 ? FakeGuestAgent.Close : null);
        using Marks marks = new();
        using Quiesce quiesce = new(Options(QuiescePolicy.Required, agent.Path), marks.Qmp, default);

        quiesce.Prepare(running: true);
        quiesce.Freeze();
        quiesce.Thaw();

        Assert.Equal(QuiesceOutcome.GuestAgent, quiesce.Finish());
        Assert.False(agent.Frozen || marks.IsSet);
    }

    /// <summary>A late answer to the freeze says nothing about the thaw, which may never succeed.</summary>
    [Fact]
    public void An_answer_that_comes_too_late_is_not_taken_for_the_next_one()
    {
        int freezes = 0,
            thaws = 0;
        FakeGuestAgent? agent = null;
        using FakeGuestAgent made = agent = new(c =>
        {
            if (c == "guest-fsfreeze-freeze" && freezes++ == 0)
            {
                Thread.Sleep(Short * 3);
                agent!.Frozen = true;
                return "{\"return\": 2}\n";
            }
            return c == "guest-fsfreeze-thaw" && thaws++ == 0 ? FakeGuestAgent.Close : null;
        });
        using Marks marks = new();
        using Quiesce quiesce = new(Options(QuiescePolicy.IfAvailable, agent.Path), marks.Qmp, default);

        Run(quiesce);

        Assert.Equal(QuiesceOutcome.QuiesceFailed, quiesce.Outcome);
        Assert.Contains("did not answer", quiesce.Detail, StringComparison.Ordinal);
        Assert.False(agent.Frozen || marks.IsSet);
    }

    [Theory]
    [InlineData(QuiescePolicy.Never)]
    [InlineData(QuiescePolicy.IfAvailable)]
    public void Nobody_is_asked_without_need(QuiescePolicy policy)
    {
        using FakeGuestAgent agent = new();
        using Marks marks = new();
        using Quiesce quiesce = new(
            Options(policy, agent.Path) with
            {
                After = policy == QuiescePolicy.Never ? AfterCapture.Continue : AfterCapture.Stop,
            },
            marks.Qmp,
            default
        );

        Run(quiesce);

        Assert.Equal(QuiesceOutcome.Online, quiesce.Outcome);
        Assert.Empty(agent.Received);
    }

    [Fact]
    public void Without_a_socket_there_is_no_agent()
    {
        using Marks marks = new();
        using Quiesce quiesce = new(Options(QuiescePolicy.IfAvailable, null), marks.Qmp, default);

        Run(quiesce);

        Assert.Equal(QuiesceOutcome.NoGuestAgent, quiesce.Outcome);
        Refused(Options(QuiescePolicy.Required, null), "no guest agent's socket was named");
    }

    [Fact]
    public void An_agent_that_never_answers_is_no_agent()
    {
        using FakeGuestAgent agent = new(_ => "");
        using Marks marks = new();
        using Quiesce quiesce = new(Options(QuiescePolicy.IfAvailable, agent.Path), marks.Qmp, default);

        Run(quiesce);

        Assert.Equal(QuiesceOutcome.NoGuestAgent, quiesce.Outcome);
        Assert.Contains("did not answer", quiesce.Detail, StringComparison.Ordinal);
        Refused(Options(QuiescePolicy.Required, agent.Path), "did not answer");
    }

    [Fact]
    public void A_paused_guest_is_not_asked()
    {
        using FakeGuestAgent agent = new();
        using Marks marks = new();
        using Quiesce quiesce = new(Options(QuiescePolicy.IfAvailable, agent.Path), marks.Qmp, default);

        quiesce.Prepare(running: false);

        Assert.Equal(QuiesceOutcome.NoGuestAgent, quiesce.Outcome);
        Assert.Empty(agent.Received);
    }

    [Fact]
    public void A_freeze_of_somebody_else_is_left_alone()
    {
        using FakeGuestAgent agent = new() { Frozen = true };
        using Marks marks = new();
        using Quiesce quiesce = new(Options(QuiescePolicy.IfAvailable, agent.Path), marks.Qmp, default);

        Run(quiesce);

        Assert.Equal(QuiesceOutcome.QuiesceFailed, quiesce.Outcome);
        Assert.True(agent.Frozen);
        Refused(Options(QuiescePolicy.Required, agent.Path), "somebody else");
    }

    [Theory]
    [InlineData("{\"error\": {\"class\": \"GenericError\", \"desc\": \"failed to freeze /\"}}\n")]
    [InlineData("")]
    [InlineData("nonsense\n")]
    public void A_freeze_that_fails_is_thawed_and_told(string answer)
    {
        using FakeGuestAgent agent = new(c => c == "guest-fsfreeze-freeze" ? answer : null);
        using Marks marks = new();
        using Quiesce quiesce = new(Options(QuiescePolicy.IfAvailable, agent.Path), marks.Qmp, default);

        Run(quiesce);

        Assert.Equal(QuiesceOutcome.QuiesceFailed, quiesce.Outcome);
        Assert.NotNull(quiesce.Detail);
        Assert.True(agent.CountOf("guest-fsfreeze-thaw") > 0 && !marks.IsSet);
    }

    [Fact]
    public void A_freeze_that_fails_ends_a_capture_that_requires_it()
    {
        using FakeGuestAgent agent = new(c => c == "guest-fsfreeze-freeze" ? "" : null);
        using Marks marks = new();
        using (Quiesce quiesce = new(Options(QuiescePolicy.Required, agent.Path), marks.Qmp, default))
        {
            quiesce.Prepare(running: true);
            Assert.Equal("QuiesceFailed", Assert.Throws<CaptureFailedException>(quiesce.Freeze).Reason);
        }

        Assert.True(agent.CountOf("guest-fsfreeze-thaw") > 0 && !marks.IsSet);
    }

    [Fact]
    public void A_guest_that_thawed_by_itself_was_not_quiesced()
    {
        using FakeGuestAgent agent = new();
        using Marks marks = new();
        using Quiesce quiesce = new(Options(QuiescePolicy.IfAvailable, agent.Path), marks.Qmp, default);

        quiesce.Prepare(running: true);
        quiesce.Freeze();
        agent.Frozen = false;
        quiesce.Thaw();

        Assert.Equal(QuiesceOutcome.QuiesceFailed, quiesce.Finish());
    }

    [Fact]
    public void What_a_dead_capture_froze_is_thawed_by_its_mark()
    {
        using FakeGuestAgent agent = new() { Frozen = true };
        using Marks marks = new();

        Assert.False(ThawRetry.Leftover(marks.Qmp, agent.Path)); // no marker: a foreign freeze
        Assert.True(agent.Frozen);
        FreezeMark.Put(marks.Qmp);
        Assert.True(ThawRetry.Leftover(marks.Qmp, agent.Path));
        Assert.False(agent.Frozen || marks.IsSet);
    }

    private static void Run(Quiesce quiesce)
    {
        quiesce.Prepare(running: true);
        quiesce.Freeze();
        quiesce.Thaw();
        _ = quiesce.Finish();
    }

    private static void Refused(CaptureOptions options, string why)
    {
        using Marks marks = new();
        using Quiesce quiesce = new(options, marks.Qmp, default);
        RefusedException e = Assert.Throws<RefusedException>(() => quiesce.Prepare(running: true));
        Assert.Equal("QuiesceFailed", e.Reason);
        Assert.Contains(why, e.Message, StringComparison.Ordinal);
    }

    private static CaptureOptions Options(QuiescePolicy policy, string? socket) =>
        new()
        {
            Monitor = new MonitorAddress { QmpSocket = "qmp" },
            Output = "output",
            GuestAgentSocket = socket,
            Quiesce = policy,
            QuiesceTimeout = Short,
        };

    /// <summary>A QEMU that keeps our marker.</summary>
    private sealed class Marks : IDisposable
    {
        private readonly FakeQmpServer _server;

        internal Marks()
        {
            _server = FakeQmpServer.Greeted(s =>
            {
                for (string command; (command = s.ReadCommand()).Length > 0; )
                {
                    bool put = command.Contains("\"getfd\"", StringComparison.Ordinal),
                        known = put || IsSet;
                    IsSet = put;
                    s.Send(
                        known
                            ? FakeQmpServer.Empty
                            : """{"error": {"class": "GenericError", "desc": "File descriptor named 'x' not found"}}""" + "\r\n"
                    );
                }
            });
            Qmp = QmpClient.Connect(_server.Path);
        }

        internal QmpClient Qmp { get; }

        internal volatile bool IsSet;

        public void Dispose()
        {
            Qmp.Dispose();
            _server.Dispose();
        }
    }
}

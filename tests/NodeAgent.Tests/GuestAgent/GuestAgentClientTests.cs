using System.Diagnostics;
using Bgsnap.Qemu.GuestAgent;

namespace Bgsnap.NodeAgent.Tests.GuestAgent;

/// <summary>The client of a guest agent that may send anything: every wait ends, and only the right answer counts.</summary>
public class GuestAgentClientTests
{
    private static readonly TimeSpan Long = TimeSpan.FromSeconds(20),
        Short = TimeSpan.FromMilliseconds(300);

    [Fact]
    public void Freezes_and_thaws()
    {
        using FakeGuestAgent agent = new();
        using GuestAgentClient client = Connect(agent, Long);

        Assert.Equal(2, client.Freeze(Long, default));
        Assert.True(agent.Frozen);
        Assert.True(client.IsFrozen(Long, default));
        Assert.Equal(2, client.Thaw(Long));
        Assert.False(client.IsFrozen(Long, default));
        Assert.Equal(0, client.Thaw(Long));
    }

    [Fact]
    public void An_answer_that_is_an_error_is_told()
    {
        using FakeGuestAgent agent = new() { Frozen = true };
        using GuestAgentClient client = Connect(agent, Long);

        GuestAgentException e = Assert.Throws<GuestAgentException>(() => client.Freeze(Long, default));
        Assert.True(e.Refused);
        Assert.Contains("the agent is in frozen state", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Nobody_at_the_socket_is_told()
    {
        GuestAgentException e = Assert.Throws<GuestAgentException>(() => GuestAgentClient.Connect("/nonexistent/agent", Long, default));
        Assert.Contains("/nonexistent/agent", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void An_agent_that_never_answers_is_given_up_in_time()
    {
        using FakeGuestAgent agent = new(_ => "");
        long began = Stopwatch.GetTimestamp();

        GuestAgentException e = Assert.Throws<GuestAgentException>(() => Connect(agent, Short).Dispose());

        Assert.Contains("did not answer guest-sync-delimited", e.Message, StringComparison.Ordinal);
        Assert.InRange(Stopwatch.GetElapsedTime(began), Short, Long);
    }

    /// <summary>QEMU accepts one client of a channel at a time; further ones fill the backlog and then block in connect(2).</summary>
    [Fact]
    public void A_socket_at_which_nobody_is_taken_is_given_up_in_time()
    {
        using Store.TempDirectory directory = new();
        using System.Net.Sockets.Socket listener = new(
            System.Net.Sockets.AddressFamily.Unix,
            System.Net.Sockets.SocketType.Stream,
            System.Net.Sockets.ProtocolType.Unspecified
        );
        string path = directory.Sub("agent");
        listener.Bind(new System.Net.Sockets.UnixDomainSocketEndPoint(path));
        listener.Listen(0);
        for (int i = 0; i < 3; i++)
            Assert.Throws<GuestAgentException>(() => GuestAgentClient.Connect(path, Short, default));
    }

    [Theory]
    [InlineData("nonsense\n")]
    [InlineData("[]\n")]
    [InlineData("{}\n")]
    [InlineData("{\"error\": 5}\n")]
    public void Nonsense_for_an_answer_is_an_error(string answer)
    {
        using FakeGuestAgent agent = new(c => c == "guest-fsfreeze-freeze" ? answer : null);
        using GuestAgentClient client = Connect(agent, Long);

        Assert.False(Assert.Throws<GuestAgentException>(() => client.Freeze(Long, default)).Refused);
    }

    [Fact]
    public void An_answer_without_end_is_an_error()
    {
        using FakeGuestAgent agent = new(c => c == "guest-fsfreeze-freeze" ? new string('x', 200_000) : null);
        using GuestAgentClient client = Connect(agent, Long);

        Assert.Contains(
            "longer than",
            Assert.Throws<GuestAgentException>(() => client.Freeze(Long, default)).Message,
            StringComparison.Ordinal
        );
    }

    [Fact]
    public void Garbage_before_the_answer_to_sync_is_skipped_whatever_its_length()
    {
        int synced = 0;
        using FakeGuestAgent agent = new(c => c == "guest-sync-delimited" && synced++ == 0 ? new string('x', 200_000) + "\n" : null);
        Assert.Throws<GuestAgentException>(() => Connect(agent, Short).Dispose());
        using GuestAgentClient client = Connect(agent, Long);
        Assert.Equal(2, client.Freeze(Long, default));
    }

    [Fact]
    public void The_answer_to_somebody_elses_sync_is_not_ours()
    {
        using FakeGuestAgent agent = new(c => c == "guest-sync-delimited" ? "{\"return\": 5}\n" : null);

        Assert.Throws<GuestAgentException>(() => Connect(agent, Short).Dispose());
    }

    [Fact]
    public void An_agent_that_hangs_up_in_the_middle_is_told()
    {
        using FakeGuestAgent agent = new(c => c == "guest-fsfreeze-freeze" ? FakeGuestAgent.Close : null);
        using GuestAgentClient client = Connect(agent, Long);

        Assert.Contains(
            "was closed",
            Assert.Throws<GuestAgentException>(() => client.Freeze(Long, default)).Message,
            StringComparison.Ordinal
        );
    }

    [Fact]
    public void A_cancelled_wait_ends_at_once()
    {
        using FakeGuestAgent agent = new(_ => "");
        using CancellationTokenSource cancel = new(Short);

        Assert.Throws<OperationCanceledException>(() => GuestAgentClient.Connect(agent.Path, TimeSpan.FromMinutes(5), cancel.Token));
    }

    private static GuestAgentClient Connect(FakeGuestAgent agent, TimeSpan timeout) =>
        GuestAgentClient.Connect(agent.Path, timeout, default);
}

using System.Diagnostics;
using System.Net;
using System.Text;
using System.Text.Json.Nodes;
using Bgsnap.ControllerRuntime.Controller;
using k8s;
using Microsoft.Extensions.Logging.Abstractions;

namespace Bgsnap.Crds.Tests.Controller;

/// <summary>Replicas over one lease, on an API server inside the process.</summary>
public sealed class LeaderGateTests
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);
    private readonly LeaseServer _server = new();

    [Fact]
    public async Task One_leads_and_when_it_ends_in_good_order_the_next_need_not_wait_for_the_lease_to_run_out()
    {
        await using Replica one = new(_server, "one");
        await one.Leads.Task.WaitAsync(Patience);
        await using Replica two = new(_server, "two");
        await Task.Delay(TimeSpan.FromSeconds(3)); // more than a retry
        Assert.False(two.Leads.Task.IsCompleted);
        Assert.Equal("one", _server.Holder);

        long began = Stopwatch.GetTimestamp();
        await one.Stop.CancelAsync();
        Assert.False(await one.Ended.WaitAsync(Patience)); // not lost, but given back
        Assert.True(one.WorkEnded);
        await two.Leads.Task.WaitAsync(Patience);
        Assert.True(Stopwatch.GetElapsedTime(began) < TimeSpan.FromSeconds(10), "the lease lasts 15 s");
        Assert.Equal("two", _server.Holder);
    }

    [Fact]
    public async Task One_that_can_no_longer_renew_stops_its_work_before_another_may_begin()
    {
        await using Replica one = new(_server, "one");
        await one.Leads.Task.WaitAsync(Patience);
        _server.Refuses = "one";
        long began = Stopwatch.GetTimestamp();
        await using Replica two = new(_server, "two");
        Assert.True(await one.Ended.WaitAsync(Patience)); // lost: the program should end
        Assert.True(one.WorkEnded);
        Assert.False(two.Leads.Task.IsCompleted, "two led while one still worked");
        await two.Leads.Task.WaitAsync(Patience);
        Assert.InRange(Stopwatch.GetElapsedTime(began), TimeSpan.FromSeconds(8), TimeSpan.FromSeconds(30));
        Assert.Equal("two", _server.Holder);
    }

    [Fact]
    public async Task Stopped_before_it_led_it_leaves_the_lease_alone()
    {
        await using Replica one = new(_server, "one");
        await one.Leads.Task.WaitAsync(Patience);
        await using Replica two = new(_server, "two");
        await Task.Delay(500);
        await two.Stop.CancelAsync();
        Assert.False(await two.Ended.WaitAsync(Patience));
        Assert.False(two.Leads.Task.IsCompleted);
        Assert.Equal("one", _server.Holder);
    }

    private sealed class Replica : IAsyncDisposable
    {
        private readonly Kubernetes _client;

        internal Replica(LeaseServer server, string identity)
        {
            _client = new Kubernetes(new KubernetesClientConfiguration { Host = "http://server" }, new LeaseHandler(server, identity));
            Ended = Task.Run(() => new LeaderGate(_client, "ns", "lease", identity, NullLogger.Instance).Run(Work, Stop.Token));
        }

        internal TaskCompletionSource Leads { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
        internal CancellationTokenSource Stop { get; } = new();
        internal Task<bool> Ended { get; }
        internal bool WorkEnded { get; private set; }

        public async ValueTask DisposeAsync()
        {
            await Stop.CancelAsync();
            await Ended;
            Stop.Dispose();
            _client.Dispose();
        }

        private async Task Work(CancellationToken stop)
        {
            Leads.TrySetResult();
            await Task.Delay(Timeout.Infinite, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            WorkEnded = true;
        }
    }

    /// <summary>The one lease.</summary>
    private sealed class LeaseServer
    {
        private readonly Lock _gate = new();
        private JsonObject? _lease;
        private int _version;

        /// <summary>Whose writes fail.</summary>
        internal string? Refuses { get; set; }

        internal string? Holder
        {
            get
            {
                lock (_gate)
                    return _lease?["spec"]?["holderIdentity"]?.GetValue<string>();
            }
        }

        internal (HttpStatusCode Code, string Body) Answer(HttpMethod method, string? body, string caller)
        {
            lock (_gate)
            {
                if (method == HttpMethod.Get)
                    return _lease is null ? (HttpStatusCode.NotFound, Status("NotFound", 404)) : (HttpStatusCode.OK, _lease.ToJsonString());
                if (Refuses == caller)
                    return (HttpStatusCode.InternalServerError, Status("InternalError", 500));
                JsonObject next = JsonNode.Parse(body!)!.AsObject();
                if (method == HttpMethod.Post && _lease is not null)
                    return (HttpStatusCode.Conflict, Status("AlreadyExists", 409));
                if (method == HttpMethod.Put && next["metadata"]!["resourceVersion"]?.GetValue<string>() != $"{_version}")
                    return (HttpStatusCode.Conflict, Status("Conflict", 409));
                next["metadata"]!["resourceVersion"] = $"{++_version}";
                _lease = next;
                return (HttpStatusCode.OK, next.ToJsonString());
            }
        }

        private static string Status(string reason, int code) =>
            $$"""{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"{{reason}}","code":{{code}}}""";
    }

    /// <summary>One replica's connection to it.</summary>
    private sealed class LeaseHandler(LeaseServer server, string caller) : DelegatingHandler
    {
        protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            Assert.StartsWith(
                "/apis/coordination.k8s.io/v1/namespaces/ns/leases",
                request.RequestUri!.AbsolutePath,
                StringComparison.Ordinal
            );
            string? body = request.Content is null ? null : await request.Content.ReadAsStringAsync(cancellationToken);
            (HttpStatusCode code, string answer) = server.Answer(request.Method, body, caller);
            return new HttpResponseMessage(code)
            {
                RequestMessage = request,
                Content = new StringContent(answer, Encoding.UTF8, "application/json"),
            };
        }
    }
}

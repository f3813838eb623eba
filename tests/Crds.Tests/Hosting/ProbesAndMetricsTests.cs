using System.Net;
using System.Net.Http.Headers;
using System.Net.Sockets;
using Bgsnap.ControllerRuntime.Hosting;
using Bgsnap.Crds.Tests.Client;
using Microsoft.Extensions.Logging.Abstractions;
using Prometheus;

namespace Bgsnap.Crds.Tests.Hosting;

public sealed class ProbesAndMetricsTests
{
    private readonly Health _health = new();
    private readonly IPEndPoint _probes = FreePort(IPAddress.Loopback),
        _metrics = FreePort(IPAddress.Loopback);

    [Fact]
    public async Task Ready_is_what_the_program_says()
    {
        await Serve(null, async http =>
        {
            Assert.Equal((503, "starting\n"), await Get(http, _probes, "/readyz"));
            _health.NotReady = null;
            Assert.Equal((200, "ok\n"), await Get(http, _probes, "/readyz"));
        });
    }

    [Fact]
    public async Task Healthy_is_asked_anew_each_time()
    {
        await Serve(null, async http =>
        {
            Assert.Equal((200, "ok\n"), await Get(http, _probes, "/healthz"));
            _health.Stuck = () => "the queue has not moved for 10 minutes";
            Assert.Equal((503, "the queue has not moved for 10 minutes\n"), await Get(http, _probes, "/healthz"));
            Assert.Equal(404, (await Get(http, _probes, "/metrics")).Status);
        });
    }

    [Fact]
    public async Task Metrics_are_in_Prometheus_text_format()
    {
        Metrics.CreateCounter("bgsnap_test_total", "A counter of this test.").Inc(3);
        await Serve(null, async http =>
        {
            using HttpResponseMessage answer = await http.GetAsync(new Uri($"http://{_metrics}/metrics"));
            Assert.Equal("text/plain; version=0.0.4; charset=utf-8", answer.Content.Headers.ContentType!.ToString());
            Assert.Contains("\nbgsnap_test_total 3\n", await answer.Content.ReadAsStringAsync(), StringComparison.Ordinal);
            Assert.Equal(404, (await Get(http, _metrics, "/healthz")).Status);
        });
    }

    // As through kubectl port-forward.
    [Fact]
    public async Task They_are_served_whatever_the_caller_calls_the_host()
    {
        await Serve(null, async http =>
        {
            using HttpRequestMessage request = new(HttpMethod.Get, new Uri($"http://{_metrics}/metrics"))
            {
                Headers = { Host = $"localhost:{_metrics.Port}" },
            };
            using HttpResponseMessage answer = await http.SendAsync(request);
            Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
        });
    }

    [Fact]
    public async Task Only_reading_is_possible()
    {
        await Serve(null, async http =>
        {
            using HttpResponseMessage post = await http.PostAsync(new Uri($"http://{_probes}/healthz"), new StringContent("x"));
            Assert.Equal(405, (int)post.StatusCode);
            using HttpResponseMessage head = await http.SendAsync(
                new HttpRequestMessage(HttpMethod.Head, new Uri($"http://{_probes}/healthz"))
            );
            Assert.Equal((200, ""), ((int)head.StatusCode, await head.Content.ReadAsStringAsync()));
        });
    }

    [Fact]
    public async Task Metrics_are_refused_to_who_may_not_read_them_and_probes_to_nobody()
    {
        MetricsAccess access = new(new ScriptedHandler(HttpStatusCode.Created, """{"status":{"authenticated":false}}""").Client);
        await Serve(access, async http =>
        {
            Assert.Equal(401, (await Get(http, _metrics, "/metrics")).Status);
            http.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", "bad");
            Assert.Equal((401, "the token is not valid\n"), await Get(http, _metrics, "/metrics"));
            Assert.Equal(200, (await Get(http, _probes, "/healthz")).Status);
        });
    }

    [Fact]
    public async Task While_nobody_can_say_who_may_read_them_metrics_are_refused_and_the_log_says_why()
    {
        MetricsAccess access = new(new ScriptedHandler((_, _) => throw new HttpRequestException("connection refused")).Client);
        await Serve(access, async http =>
        {
            http.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", "good");
            Assert.Equal(503, (await Get(http, _metrics, "/metrics")).Status);
        });
    }

    [Fact]
    public async Task Many_at_once_are_all_answered()
    {
        await Serve(null, async http =>
        {
            var answers = await Task.WhenAll(Enumerable.Range(0, 50).Select(_ => Get(http, _probes, "/healthz")));
            Assert.All(answers, a => Assert.Equal(200, a.Status));
        });
    }

    [Theory]
    [InlineData("0.0.0.0")]
    [InlineData("::")]
    [InlineData("::1")]
    public async Task Other_addresses_can_be_listened_on(string text)
    {
        IPAddress address = IPAddress.Parse(text);
        if (address.AddressFamily == AddressFamily.InterNetworkV6 && !Socket.OSSupportsIPv6)
            return;
        IPEndPoint at = FreePort(address);
        using CancellationTokenSource stop = new();
        Task run = new HttpEndpoint(at, (_, _, _) => Task.FromResult(new HttpAnswer(200, "here\n")), NullLogger.Instance).Run(stop.Token);
        using HttpClient http = new();
        IPAddress[] reached = text switch
        {
            "::1" => [IPAddress.IPv6Loopback],
            "::" => [IPAddress.IPv6Loopback, IPAddress.Loopback],
            _ => [IPAddress.Loopback],
        };
        foreach (IPAddress a in reached)
            Assert.Equal((200, "here\n"), await Get(http, new IPEndPoint(a, at.Port), "/"));
        await stop.CancelAsync();
        await run.WaitAsync(TimeSpan.FromSeconds(5));
    }

    [Theory]
    [InlineData("nonsense\r\n\r\n", "HTTP/1.1 400 ")]
    [InlineData("GET /healthz HTTP/2.0\r\n\r\n", "HTTP/1.1 400 ")]
    [InlineData("GET /healthz?verbose HTTP/1.1\r\nhost: x\r\n\r\n", "HTTP/1.1 200 ")]
    [InlineData("GET /healthz HTTP/1.0\r\n\r\n", "HTTP/1.1 200 ")]
    [InlineData("GET /../healthz HTTP/1.1\r\n\r\n", "HTTP/1.1 404 ")]
    [InlineData("20000 x", "HTTP/1.1 400 ")]
    public async Task What_it_does_not_understand_it_refuses(string request, string answer)
    {
        await Serve(null, async _ =>
        {
            using TcpClient client = new();
            await client.ConnectAsync(_probes);
            string text = request == "20000 x" ? new string('x', 20000) : request;
            await client.GetStream().WriteAsync(System.Text.Encoding.ASCII.GetBytes(text));
            using StreamReader reader = new(client.GetStream());
            Assert.StartsWith(answer, await reader.ReadToEndAsync().WaitAsync(TimeSpan.FromSeconds(10)), StringComparison.Ordinal);
        });
    }

    [Fact]
    public async Task Callers_that_say_nothing_keep_nobody_out()
    {
        await Serve(null, async http =>
        {
            List<TcpClient> silent = [];
            for (int i = 0; i < 50; i++)
            {
                silent.Add(new TcpClient());
                await silent[^1].ConnectAsync(_probes);
            }
            Assert.Equal(200, (await Get(http, _probes, "/healthz")).Status);
            silent.ForEach(c => c.Dispose());
        });
    }

    [Fact]
    public async Task An_address_in_use_is_told()
    {
        using TcpListener other = new(IPAddress.Loopback, 0);
        other.Start();
        HttpEndpoint endpoint = new(
            (IPEndPoint)other.LocalEndpoint,
            (_, _, _) => Task.FromResult(new HttpAnswer(200, "")),
            NullLogger.Instance
        );
        await Assert.ThrowsAnyAsync<Exception>(() => endpoint.Run(default).WaitAsync(TimeSpan.FromSeconds(5)));
    }

    private async Task Serve(MetricsAccess? access, Func<HttpClient, Task> test)
    {
        using ProbesAndMetrics service = new(
            new EndpointOptions(_probes, _metrics),
            _health,
            access,
            NullLogger<ProbesAndMetrics>.Instance
        );
        await service.StartAsync(default);
        try
        {
            using HttpClient http = new();
            await Samples.Within(() => Listens(_probes) && Listens(_metrics), "listening");
            await test(http);
        }
        finally
        {
            await service.StopAsync(default).WaitAsync(TimeSpan.FromSeconds(5));
        }
    }

    private static async Task<(int Status, string Body)> Get(HttpClient http, IPEndPoint at, string path)
    {
        using HttpResponseMessage answer = await http.GetAsync(new Uri($"http://{at}{path}"));
        return ((int)answer.StatusCode, await answer.Content.ReadAsStringAsync());
    }

    private static bool Listens(IPEndPoint at)
    {
        using Socket socket = new(at.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
        try
        {
            socket.Connect(at);
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }

    private static IPEndPoint FreePort(IPAddress address)
    {
        using TcpListener listener = new(address, 0);
        listener.Start();
        return new IPEndPoint(address, ((IPEndPoint)listener.LocalEndpoint).Port);
    }
}

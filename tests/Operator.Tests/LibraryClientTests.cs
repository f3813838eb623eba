using System.Net;
using System.Net.Sockets;
using System.Text;
using Bgsnap.ControllerRuntime.Client;
using Bgsnap.Crds.Kinds;
using Bgsnap.Operator.Kube;
using k8s;

namespace Bgsnap.Operator.Tests;

/// <summary>Our client over the connections of the KubernetesClient library, against a socket.</summary>
public sealed class LibraryClientTests
{
    // The library's own watch support must not be involved: it would hold back what follows the first event.
    [Fact]
    public async Task Each_event_of_a_watch_arrives_when_it_is_sent()
    {
        using TcpListener server = new(IPAddress.Loopback, 0);
        server.Start();
        TaskCompletionSource second = new();
        Task<string> serving = Task.Run(async () =>
        {
            using TcpClient client = await server.AcceptTcpClientAsync();
            NetworkStream stream = client.GetStream();
            string request = await ReadHead(stream);
            await Send(stream, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n");
            await Chunk(stream, """{"type":"ADDED","object":{"metadata":{"name":"one","resourceVersion":"6"}}}""" + "\n");
            await second.Task;
            await Chunk(stream, """{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}""" + "\n");
            await Chunk(stream, "");
            return request;
        });
        using Kubernetes kubernetes = new(
            new KubernetesClientConfiguration
            {
                Host = $"http://127.0.0.1:{((IPEndPoint)server.LocalEndpoint).Port}",
                AccessToken = "the-token",
            }
        );
        await using var events = Cluster
            .ClientOf(kubernetes)
            .Watch(Resources.Tasks, null, null, "5", TimeSpan.FromSeconds(300), default)
            .GetAsyncEnumerator();
        Assert.True(await events.MoveNextAsync().AsTask().WaitAsync(TimeSpan.FromSeconds(10)));
        Assert.Equal("one", events.Current.Item.Metadata.Name);
        second.SetResult();
        Assert.True(await events.MoveNextAsync().AsTask().WaitAsync(TimeSpan.FromSeconds(10)));
        Assert.Equal("9", events.Current.Item.Metadata.ResourceVersion);
        Assert.False(await events.MoveNextAsync().AsTask().WaitAsync(TimeSpan.FromSeconds(10)));
        string asked = await serving;
        Assert.StartsWith(
            "GET /apis/bgsnap.io/v1alpha1/snapshottasks?watch=true&allowWatchBookmarks=true&resourceVersion=5&timeoutSeconds=300 "
                + "HTTP/1.1\r\n",
            asked,
            StringComparison.Ordinal
        );
        Assert.Contains("\r\nAuthorization: Bearer the-token\r\n", asked, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_write_sends_its_body_and_content_type()
    {
        using TcpListener server = new(IPAddress.Loopback, 0);
        server.Start();
        Task<string> serving = Task.Run(async () =>
        {
            using TcpClient client = await server.AcceptTcpClientAsync();
            NetworkStream stream = client.GetStream();
            string request = await ReadHead(stream);
            byte[] body = new byte[100];
            int n = await stream.ReadAsync(body);
            await Send(
                stream,
                "HTTP/1.1 409 Conflict\r\nContent-Type: application/json\r\nContent-Length: 48\r\n\r\n"
                    + """{"kind":"Status","reason":"Conflict","code":409}"""
            );
            return request + "|" + Encoding.UTF8.GetString(body, 0, n);
        });
        using Kubernetes kubernetes = new(
            new KubernetesClientConfiguration { Host = $"http://127.0.0.1:{((IPEndPoint)server.LocalEndpoint).Port}/" }
        );
        ApiException e = await Assert.ThrowsAsync<ApiException>(() =>
            Cluster
                .ClientOf(kubernetes)
                .MergePatch(
                    Resources.Snapshots,
                    "ns",
                    "a",
                    "status",
                    new() { ["status"] = new System.Text.Json.Nodes.JsonObject() },
                    default
                )
        );
        Assert.True(e.IsConflict);
        string asked = await serving;
        Assert.StartsWith(
            "PATCH /apis/bgsnap.io/v1alpha1/namespaces/ns/vmbackgroundsnapshots/a/status HTTP/1.1\r\n",
            asked,
            StringComparison.Ordinal
        );
        Assert.Contains("Content-Type: application/merge-patch+json", asked, StringComparison.Ordinal);
        Assert.EndsWith("""|{"status":{}}""", asked, StringComparison.Ordinal);
    }

    private static async Task<string> ReadHead(NetworkStream stream)
    {
        StringBuilder head = new();
        byte[] one = new byte[1];
        while (!head.ToString().EndsWith("\r\n\r\n", StringComparison.Ordinal) && await stream.ReadAsync(one) == 1)
            head.Append((char)one[0]);
        return head.ToString();
    }

    private static Task Send(NetworkStream stream, string text) => stream.WriteAsync(Encoding.UTF8.GetBytes(text)).AsTask();

    private static Task Chunk(NetworkStream stream, string text) => Send(stream, $"{text.Length:x}\r\n{text}\r\n");
}

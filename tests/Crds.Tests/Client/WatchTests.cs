using System.IO.Pipelines;
using System.Net;
using System.Text;
using Bgsnap.ControllerRuntime.Client;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;

namespace Bgsnap.Crds.Tests.Client;

public sealed class WatchTests
{
    private static readonly TimeSpan Longest = TimeSpan.FromSeconds(300);

    [Theory]
    [InlineData(
        null,
        null,
        "/apis/bgsnap.io/v1alpha1/snapshottasks?watch=true&allowWatchBookmarks=true&resourceVersion=5&timeoutSeconds=300"
    )]
    [InlineData(
        "ns",
        "a=b",
        "/apis/bgsnap.io/v1alpha1/namespaces/ns/snapshottasks"
            + "?labelSelector=a%3Db&watch=true&allowWatchBookmarks=true&resourceVersion=5&timeoutSeconds=300"
    )]
    public async Task It_asks_from_a_version_on_with_bookmarks_and_an_end(string? ns, string? labels, string path)
    {
        ScriptedHandler server = new(HttpStatusCode.OK, "");
        Assert.Empty(await All(server.Client.Watch(Resources.Tasks, ns, labels, "5", Longest, default)));
        Assert.Equal(("GET", path), (server.Method, server.Path));
    }

    [Fact]
    public async Task Lines_are_events()
    {
        ScriptedHandler server = new(
            HttpStatusCode.OK,
            Samples.Line("ADDED", Samples.Task("a", "7"))
                + "\n\n"
                + Samples.Bookmark("9")
                + "\r\n"
                + Samples.Line("DELETED", Samples.Task("a", "10"))
        );
        var events = await All(server.Client.Watch(Resources.Tasks, null, null, "5", Longest, default));
        Assert.Equal(["ADDED 7", "BOOKMARK 9", "DELETED 10"], events.Select(e => $"{e.Type} {e.Item.Metadata.ResourceVersion}"));
    }

    [Fact]
    public async Task An_event_arrives_when_its_line_does_and_not_when_the_stream_ends()
    {
        Pipe pipe = new();
        ScriptedHandler server = new(
            (_, _) => Task.FromResult(new HttpResponseMessage(HttpStatusCode.OK) { Content = new StreamContent(pipe.Reader.AsStream()) })
        );
        await using var events = server.Client.Watch(Resources.Tasks, null, null, "5", Longest, default).GetAsyncEnumerator();
        ValueTask<bool> next = events.MoveNextAsync();
        string line = Samples.Line("ADDED", Samples.Task("a", "7")) + "\n";
        await pipe.Writer.WriteAsync(Encoding.UTF8.GetBytes(line[..40]));
        await Task.Delay(30);
        Assert.False(next.IsCompleted);
        await pipe.Writer.WriteAsync(Encoding.UTF8.GetBytes(line[40..]));
        Assert.True(await next.AsTask().WaitAsync(TimeSpan.FromSeconds(10)));
        Assert.Equal("7", events.Current.Item.Metadata.ResourceVersion);
        await pipe.Writer.CompleteAsync();
    }

    [Fact]
    public async Task An_error_line_is_an_exception_with_its_code()
    {
        ScriptedHandler server = new(HttpStatusCode.OK, Samples.Gone + "\n");
        ApiException e = await Assert.ThrowsAsync<ApiException>(() =>
            All(server.Client.Watch(Resources.Tasks, null, null, "5", Longest, default))
        );
        Assert.Equal((410, "Expired"), (e.Code, e.Reason));
    }

    [Fact]
    public async Task A_refused_watch_is_an_exception()
    {
        ScriptedHandler server = new(HttpStatusCode.Gone, """{"kind":"Status","reason":"Expired","message":"too old","code":410}""");
        Assert.Equal(
            410,
            (
                await Assert.ThrowsAsync<ApiException>(() => All(server.Client.Watch(Resources.Tasks, null, null, "5", Longest, default)))
            ).Code
        );
    }

    [Theory]
    [InlineData("""{"type":"ADDED","object":{"metadata":{"na""")]
    [InlineData("<html>")]
    [InlineData("""{"type":"ADDED"}""")]
    [InlineData("""{"object":{}}""")]
    [InlineData("""{"type":"ADDED","object":null}""")]
    [InlineData("""{"type":"ADDED","object":{"spec":7}}""")]
    [InlineData("""{"type":7,"object":{}}""")]
    [InlineData("[]")]
    public async Task A_line_that_is_no_event_is_trouble_with_the_connection(string line)
    {
        ScriptedHandler server = new(HttpStatusCode.OK, line);
        await Assert.ThrowsAsync<HttpRequestException>(() => All(server.Client.Watch(Resources.Tasks, null, null, "5", Longest, default)));
    }

    [Fact]
    public async Task A_stream_that_breaks_off_is_an_exception()
    {
        Pipe pipe = new();
        ScriptedHandler server = new(
            (_, _) => Task.FromResult(new HttpResponseMessage(HttpStatusCode.OK) { Content = new StreamContent(pipe.Reader.AsStream()) })
        );
        await pipe.Writer.CompleteAsync(new IOException("connection reset by peer"));
        await Assert.ThrowsAsync<IOException>(() => All(server.Client.Watch(Resources.Tasks, null, null, "5", Longest, default)));
    }

    [Fact]
    public async Task A_connection_that_died_without_a_word_is_given_up()
    {
        Pipe silent = new();
        ScriptedHandler server = new(
            (_, _) => Task.FromResult(new HttpResponseMessage(HttpStatusCode.OK) { Content = new StreamContent(silent.Reader.AsStream()) })
        );
        ApiClient client = new(new HttpClient(server) { BaseAddress = new Uri("https://server/") }, TimeSpan.FromMilliseconds(50));
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() =>
            All(client.Watch(Resources.Tasks, null, null, "5", TimeSpan.FromMilliseconds(50), default)).WaitAsync(TimeSpan.FromSeconds(10))
        );
    }

    [Fact]
    public async Task Stopping_ends_a_watch_at_once()
    {
        Pipe silent = new();
        ScriptedHandler server = new(
            (_, _) => Task.FromResult(new HttpResponseMessage(HttpStatusCode.OK) { Content = new StreamContent(silent.Reader.AsStream()) })
        );
        using CancellationTokenSource stop = new(50);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() =>
            All(server.Client.Watch(Resources.Tasks, null, null, "5", Longest, stop.Token)).WaitAsync(TimeSpan.FromSeconds(10))
        );
    }

    private static async Task<List<WatchEvent<SnapshotTask>>> All(IAsyncEnumerable<WatchEvent<SnapshotTask>> events)
    {
        List<WatchEvent<SnapshotTask>> all = [];
        await foreach (var e in events)
            all.Add(e);
        return all;
    }
}

using System.Net;
using System.Text;
using Bgsnap.ControllerRuntime.Client;

namespace Bgsnap.Crds.Tests.Client;

/// <summary>An HTTP server inside the process: answers as the test says and keeps what was asked.</summary>
internal sealed class ScriptedHandler : HttpMessageHandler
{
    private readonly Func<HttpRequestMessage, CancellationToken, Task<HttpResponseMessage>> _answer;

    internal ScriptedHandler(Func<HttpRequestMessage, CancellationToken, Task<HttpResponseMessage>> answer) => _answer = answer;

    internal ScriptedHandler(HttpStatusCode code, string body, string mediaType = "application/json")
        : this((_, _) => Task.FromResult(new HttpResponseMessage(code) { Content = new StringContent(body, Encoding.UTF8, mediaType) })) { }

    internal string Method { get; private set; } = "";

    internal string Path { get; private set; } = "";

    internal string? Body { get; private set; }

    internal string? ContentType { get; private set; }

    internal ApiClient Client =>
        new(new HttpClient(this) { BaseAddress = new Uri("https://server:6443/"), Timeout = Timeout.InfiniteTimeSpan });

    protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
    {
        (Method, Path) = (request.Method.Method, request.RequestUri!.PathAndQuery);
        Body = request.Content is null ? null : await request.Content.ReadAsStringAsync(cancellationToken);
        ContentType = request.Content?.Headers.ContentType?.ToString();
        return await _answer(request, cancellationToken);
    }
}

using System.Net;
using System.Text;
using Microsoft.Extensions.Logging;

namespace Bgsnap.Crds.Hosting;

/// <summary>What a path answers.</summary>
/// <param name="Status">HTTP status.</param>
/// <param name="Body">The text.</param>
/// <param name="ContentType">Its type.</param>
public readonly record struct HttpAnswer(int Status, string Body, string ContentType = "text/plain; charset=utf-8");

/// <summary>A small HTTP server for probes and metrics: GET only, no bodies, a handful of clients.</summary>
public sealed class HttpEndpoint(IPEndPoint address, Func<string, string?, CancellationToken, Task<HttpAnswer>> answer, ILogger log)
{
    private static readonly TimeSpan AnswerTimeout = TimeSpan.FromSeconds(20);

    /// <summary>Serves until stopped.</summary>
    /// <exception cref="HttpListenerException">The address is in use.</exception>
    public async Task Run(CancellationToken stop)
    {
        using HttpListener listener = new();
        listener.Prefixes.Add($"http://{(address.Address.Equals(IPAddress.Any) ? "*" : address.Address.ToString())}:{address.Port}/");
        listener.Start();
        await using CancellationTokenRegistration end = stop.Register(listener.Stop);
        while (!stop.IsCancellationRequested)
        {
            HttpListenerContext context;
            try
            {
                context = await listener.GetContextAsync().ConfigureAwait(false);
            }
            catch (Exception e) when (e is HttpListenerException or ObjectDisposedException or InvalidOperationException)
            {
                if (stop.IsCancellationRequested) return;
                await Task.Delay(100, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                continue;
            }
            _ = Serve(context, stop);
        }
    }

    private async Task Serve(HttpListenerContext context, CancellationToken stop)
    {
        try
        {
            using var timeout = CancellationTokenSource.CreateLinkedTokenSource(stop);
            timeout.CancelAfter(AnswerTimeout);
            HttpAnswer a = context.Request.HttpMethod is "GET" or "HEAD"
                ? await answer(context.Request.Url?.AbsolutePath ?? "/", context.Request.Headers["Authorization"], timeout.Token).ConfigureAwait(false)
                : new HttpAnswer(405, "only GET\n");
            byte[] body = Encoding.UTF8.GetBytes(a.Body);
            context.Response.StatusCode = a.Status;
            context.Response.ContentType = a.ContentType;
            context.Response.ContentLength64 = body.Length;
            if (context.Request.HttpMethod != "HEAD") await context.Response.OutputStream.WriteAsync(body, timeout.Token).ConfigureAwait(false);
            context.Response.Close();
        }
        catch (Exception e)
        {
            log.LogDebug("a request could not be answered: {Why}", e.Message);
            context.Response.Abort();
        }
    }
}

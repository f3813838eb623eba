using System.Net;
using System.Net.Sockets;
using System.Text;
using Microsoft.Extensions.Logging;

namespace Bgsnap.ControllerRuntime.Hosting;

/// <summary>What a path answers.</summary>
/// <param name="Status">HTTP status.</param>
/// <param name="Body">The text.</param>
/// <param name="ContentType">Its type.</param>
public readonly record struct HttpAnswer(int Status, string Body, string ContentType = "text/plain; charset=utf-8");

/// <summary>
/// A small HTTP/1.1 server for probes and metrics: reads one request of a connection, answers, closes. The framework's HttpListener
/// does not listen on IPv6 addresses here, and refuses callers that name the host otherwise, such as kubectl port-forward's.
/// </summary>
public sealed class HttpEndpoint(IPEndPoint address, Func<string, string?, CancellationToken, Task<HttpAnswer>> answer, ILogger log)
{
    private const int LongestHead = 16 * 1024,
        MostConnections = 64;
    private static readonly TimeSpan AskWithin = TimeSpan.FromSeconds(5),
        AnswerWithin = TimeSpan.FromSeconds(20);

    /// <summary>Serves until stopped.</summary>
    /// <exception cref="SocketException">The address is in use.</exception>
    public async Task Run(CancellationToken stop)
    {
        using Socket listener = new(address.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
        if (address.Address.Equals(IPAddress.IPv6Any))
            listener.DualMode = true;
        listener.Bind(address);
        listener.Listen();
        SemaphoreSlim places = new(MostConnections);
        while (!stop.IsCancellationRequested)
        {
            try
            {
                await places.WaitAsync(stop).ConfigureAwait(false);
                _ = Serve(await listener.AcceptAsync(stop).ConfigureAwait(false), places, stop);
            }
            catch (OperationCanceledException)
            {
                return;
            }
            catch (SocketException e)
            {
                // The caller left before it was let in, or there are no descriptors: the next may fare better.
                log.LogDebug("a connection was not accepted: {Why}", e.Message);
                places.Release();
                await Task.Delay(100, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
        }
    }

    private async Task Serve(Socket client, SemaphoreSlim places, CancellationToken stop)
    {
        using var timeout = CancellationTokenSource.CreateLinkedTokenSource(stop);
        timeout.CancelAfter(AskWithin);
        try
        {
            using (client)
            {
                string head = await ReadHead(client, timeout.Token).ConfigureAwait(false);
                timeout.CancelAfter(AnswerWithin);
                string method = head.Split(' ', 2)[0];
                HttpAnswer a = await Answer(method, head, timeout.Token).ConfigureAwait(false);
                byte[] body = Encoding.UTF8.GetBytes(a.Body);
                string answerHead =
                    $"HTTP/1.1 {a.Status} {(HttpStatusCode)a.Status}\r\nContent-Type: {a.ContentType}\r\nContent-Length: "
                    + $"{body.Length}\r\nConnection: close\r\n\r\n";
                byte[] all = [.. Encoding.ASCII.GetBytes(answerHead), .. method == "HEAD" ? [] : body];
                for (int sent = 0; sent < all.Length; )
                    sent += await client.SendAsync(all.AsMemory(sent), timeout.Token).ConfigureAwait(false);
                // What the caller still sends is read: closing before that would take back the answer.
                client.Shutdown(SocketShutdown.Send);
                for (int left = LongestHead, n = 1; left > 0 && n > 0; left -= n)
                    n = await client.ReceiveAsync(new byte[1024], timeout.Token).ConfigureAwait(false);
            }
        }
        catch (Exception e) when (e is SocketException or IOException or OperationCanceledException)
        {
            log.LogDebug("a request could not be answered: {Why}", e.Message);
        }
        finally
        {
            places.Release();
        }
    }

    // Request line and headers; empty when there are none, or too many.
    private static async Task<string> ReadHead(Socket client, CancellationToken stop)
    {
        byte[] buffer = new byte[LongestHead];
        for (int length = 0; length < buffer.Length; )
        {
            int n = await client.ReceiveAsync(buffer.AsMemory(length), stop).ConfigureAwait(false);
            if (n == 0)
                break;
            length += n;
            int end = buffer.AsSpan(0, length).IndexOf("\r\n\r\n"u8);
            if (end >= 0)
                return Encoding.ASCII.GetString(buffer, 0, end);
        }
        return "";
    }

    private async Task<HttpAnswer> Answer(string method, string head, CancellationToken stop)
    {
        string[] lines = head.Split("\r\n");
        string[] request = lines[0].Split(' ');
        if (request.Length != 3 || !request[2].StartsWith("HTTP/1.", StringComparison.Ordinal))
            return new HttpAnswer(400, "this is no HTTP/1.1 request\n");
        if (method is not ("GET" or "HEAD"))
            return new HttpAnswer(405, "only GET\n");
        string path = request[1].Split('?', 2)[0];
        try
        {
            return await answer(
                    path,
                    lines
                        .FirstOrDefault(l => l.StartsWith("Authorization:", StringComparison.OrdinalIgnoreCase))
                        ?["Authorization:".Length..].Trim(),
                    stop
                )
                .ConfigureAwait(false);
        }
        catch (Exception e) when (!stop.IsCancellationRequested)
        {
            log.LogWarning("{Path} could not be answered: {Why}", path, e.Message);
            return new HttpAnswer(503, "it could not be answered; the log says why\n");
        }
    }
}

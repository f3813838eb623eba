using System.Net.Sockets;
using System.Text;
using Bgsnap.Linux.Tests.Harness;
using Bgsnap.Linux.Tests.Survival;

namespace Bgsnap.Linux.Tests.BadInput;

/// <summary>If a QEMU sends without end, the agent ends its capture with a reason, and its memory does not grow.</summary>
public class FloodTests
{
    private const string Greeting =
        """{"QMP": {"version": {"qemu": {"micro": 2, "minor": 0, "major": 10}, "package": ""}, "capabilities": []}}""" + "\r\n";
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(90);

    [Theory]
    [InlineData(
        """{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "FLOOD", "data": {"x": "0123456789012345678901234567890123456789"}}"""
            + "\r\n"
    )]
    [InlineData("{\"return\": \"0123456789012345678901234567890123456789")]
    public async Task A_QEMU_that_floods_us(string piece)
    {
        var folder = Directory.CreateTempSubdirectory("bgsnap-test-flood-").FullName;
        try
        {
            var path = Path.Combine(folder, "qmp");
            using Socket listener = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            listener.Bind(new UnixDomainSocketEndPoint(path));
            listener.Listen();
            using CancellationTokenSource end = new();
            var flooding = Task.Run(() => FloodAsync(listener, piece, end.Token));
            await using var family = await CaptureFamily.StartAsync(null, "--qmp", path, "--output", Path.Combine(folder, "s"));
            await family.FindWorkerAsync();

            var result = await family.WaitAsync(Patience);

            Assert.True(CaptureFamily.ErrorOf(result)?.Reason == "PeerFloods" && result.ExitCode == 1, result.ToString());
            await end.CancelAsync();
            listener.Dispose();
            await flooding;
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static async Task FloodAsync(Socket listener, string piece, CancellationToken end)
    {
        var many = Encoding.UTF8.GetBytes(string.Concat(Enumerable.Repeat(piece, 1000)));
        while (!end.IsCancellationRequested)
        {
            try
            {
                using var client = await listener.AcceptAsync(end);
                await client.SendAsync(Encoding.UTF8.GetBytes(Greeting), end);
                await client.ReceiveAsync(new byte[4096], end);
                await client.SendAsync(Encoding.UTF8.GetBytes("{\"return\": {}}\r\n"), end);
                await client.ReceiveAsync(new byte[4096], end);
                while (true)
                    await client.SendAsync(many, end);
            }
            catch (Exception e) when (e is SocketException or OperationCanceledException or ObjectDisposedException)
            {
                // The client disconnected, as it should.
            }
        }
    }
}

using System.Diagnostics;

namespace Bgsnap.Linux.Tests.Harness;

/// <summary>A folder with images, and QEMU's own tools to work on them.</summary>
internal sealed class DiskTools : IAsyncDisposable
{
    public const string QemuImg = "/usr/bin/qemu-img",
        QemuNbd = "/usr/bin/qemu-nbd";

    private readonly List<GuardedProcess> _servers = [];
    private readonly List<UnixSocket> _sockets = [];

    public string Folder { get; } = TestFolder.Create();

    public string this[string name] => Path.Combine(Folder, name);

    /// <summary>Runs a program; throws unless it succeeds.</summary>
    public static async Task<string> RunAsync(params string[] commandLine)
    {
        (var code, var output) = await TryAsync(commandLine);
        return code == 0 ? output : throw new InvalidOperationException($"{string.Join(' ', commandLine)}: {code}: {output}");
    }

    /// <summary>Runs a program until it exits.</summary>
    public static async Task<(int ExitCode, string Output)> TryAsync(params string[] commandLine)
    {
        ProcessStartInfo start = new(commandLine[0])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            RedirectStandardInput = true,
        };
        foreach (var word in commandLine[1..])
            start.ArgumentList.Add(word);
        using var process = Process.Start(start)!;
        process.StandardInput.Close();
        string[] output = await Task.WhenAll(process.StandardOutput.ReadToEndAsync(), process.StandardError.ReadToEndAsync());
        await process.WaitForExitAsync();
        return (process.ExitCode, string.Concat(output));
    }

    /// <summary>Asserts that qemu-img finds no error in the file, and in it the same content as in another image.</summary>
    public async Task SameAsync(string expected, string expectedFormat, string qcow2)
    {
        var check = await RunAsync(QemuImg, "check", this[qcow2]);
        if (!check.Contains("No errors", StringComparison.Ordinal))
            throw new InvalidOperationException($"qemu-img check {this[qcow2]}: {check}");
        await RunAsync(QemuImg, "compare", "-f", expectedFormat, "-F", "qcow2", this[expected], this[qcow2]);
    }

    /// <summary>Serves an image and connects to it.</summary>
    public async Task<(GuardedProcess Server, UnixSocket[] Sockets)> ServeAsync(string image, string format, int connections)
    {
        var path = this[$"nbd{_servers.Count}.sock"];
        var server = await GuardedProcess.StartAsync([
            QemuNbd,
            "-k",
            path,
            "-t",
            "-e",
            "8",
            "-x",
            "agent-disk0",
            "-f",
            format,
            "-r",
            this[image],
        ]);
        _servers.Add(server);
        for (var deadline = Environment.TickCount64 + 60_000; !File.Exists(path); await Task.Delay(20))
        {
            if (server.HasEnded || Environment.TickCount64 > deadline)
                throw new InvalidOperationException($"qemu-nbd does not serve {image}: {server.StandardError}");
        }

        return (server, Connect(path, connections));
    }

    public UnixSocket[] Connect(string path, int connections)
    {
        UnixSocket[] sockets = [.. Enumerable.Range(0, connections).Select(_ => ConnectOne(path))];
        _sockets.AddRange(sockets);
        return sockets;
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var socket in _sockets)
            socket.Dispose();
        foreach (var server in _servers)
            await server.DisposeAsync();
        Directory.Delete(Folder, recursive: true);
    }

    // Between bind and listen, the socket's file exists but nothing accepts connections.
    private static UnixSocket ConnectOne(string path)
    {
        for (var deadline = Environment.TickCount64 + 60_000; ; Thread.Sleep(20))
        {
            try
            {
                return UnixSocket.ConnectTo(path);
            }
            catch (LinuxException) when (Environment.TickCount64 < deadline) { }
        }
    }
}

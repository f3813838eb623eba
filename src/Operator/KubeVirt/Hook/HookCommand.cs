using System.CommandLine;
using System.Runtime.InteropServices;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Bgsnap.Operator.KubeVirt.Hook;

/// <summary>
/// <c>bgsnap-operator kubevirt-hook</c>: the sidecar of a VM that is being restored (KubeVirt's annotation
/// <c>hooks.kubevirt.io/hookSidecars</c>). It listens on a socket in a directory that it shares with virt-launcher, and needs neither a
/// network nor the API server.
/// </summary>
internal static partial class HookCommand
{
    /// <summary>Where KubeVirt looks for the sockets of sidecars.</summary>
    private const string SharedDirectory = "/var/run/kubevirt-hooks";

    internal static Command Create()
    {
        Option<string> directory = new("--directory")
        {
            HelpName = "DIR",
            Description = "Directory of the socket",
            DefaultValueFactory = _ => SharedDirectory,
        };
        Command command = new(
            "kubevirt-hook",
            "Run the hook sidecar of a KubeVirt VM that is being restored: it makes QEMU wait for the snapshot."
        )
        {
            directory,
        };
        command.SetAction(
            async (parsed, stop) =>
            {
                string folder = parsed.GetValue(directory)!;
                if (!Directory.Exists(folder))
                {
                    await Console
                        .Error.WriteLineAsync(
                            $"error: directory {folder} does not exist: run this as a sidecar of KubeVirt's " + "virt-launcher"
                        )
                        .ConfigureAwait(false);
                    return 1;
                }
                await Serve(Path.Join(folder, "bgsnap.sock"), stop).ConfigureAwait(false);
                return 0;
            }
        );
        return command;
    }

    /// <summary>Serves until stopped.</summary>
    internal static async Task Serve(string socket, CancellationToken stop)
    {
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders().AddSimpleConsole(o => o.SingleLine = true).SetMinimumLevel(LogLevel.Warning);
        builder.Services.AddGrpc();
        builder.WebHost.ConfigureKestrel(k => k.ListenUnixSocket(socket, l => l.Protocols = HttpProtocols.Http2));
        await using WebApplication app = builder.Build();
        app.MapGrpcService<InfoService>();
        app.MapGrpcService<CallbacksService>();
        // virt-launcher waits only one second for an answer: have the JIT compile the code now.
        _ = DomainHook.Apply("<domain><os><type/></os><devices/></domain>", "<domain><os><type machine='q35'/></os><devices/></domain>");
        File.Delete(socket);
        // virt-launcher runs as root or as uid 107, and this process as the user of its image: both must be able to use the socket.
        // virt-launcher calls as soon as the socket exists, so the umask comes first.
        _ = Umask(0);
        await app.StartAsync(stop).ConfigureAwait(false);
        await app.WaitForShutdownAsync(stop).ConfigureAwait(false);
        File.Delete(socket);
    }

    /// <summary>umask(2).</summary>
    [LibraryImport("libc", EntryPoint = "umask")]
    private static partial uint Umask(uint mask);
}

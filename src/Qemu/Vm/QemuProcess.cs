using System.Text;
using Bgsnap.Linux;
using Bgsnap.Qemu.Qmp;
using Bgsnap.Vocabulary;

namespace Bgsnap.Qemu.Vm;

/// <summary>A running QEMU: its process and what it reports about itself.</summary>
/// <param name="Pid">Process id, in our pid namespace.</param>
/// <param name="Name">The VM's name (<c>-name guest=</c>); empty: it has none.</param>
/// <param name="Uuid">The VM's UUID.</param>
/// <param name="MachineType">Versioned machine type, such as <c>pc-i440fx-7.2</c>.</param>
/// <param name="QemuVersion">Such as <c>7.2.22</c>.</param>
/// <param name="Arguments">QEMU's command line.</param>
internal sealed record QemuProcess(
    int Pid,
    string Name,
    string Uuid,
    string MachineType,
    string QemuVersion,
    IReadOnlyList<string> Arguments
) : IDisposable
{
    /// <summary>
    /// The same process, held since before it was checked: every read, write and call uses this handle, never the process number.
    /// </summary>
    internal required CheckedProcess Held { get; init; }

    /// <summary>Its devices on PCI buses, to be kept with a snapshot; null: not read.</summary>
    internal IReadOnlyList<PciDevice>? Devices { get; set; }

    /// <summary>Identifies the QEMU behind a QMP connection.</summary>
    /// <param name="qmp">The connection.</param>
    /// <param name="pid">The process, or 0 to take the socket's peer.</param>
    /// <exception cref="RefusedException">The process is not visible here, or is not the QEMU behind the socket.</exception>
    public static QemuProcess Identify(IQmpMonitor qmp, int pid = 0)
    {
        CheckedProcess? held = null;
        try
        {
            if (pid == 0)
                pid = qmp.PeerPid;
            if (pid == 0)
                throw new RefusedException(
                    Reasons.ProcessNotFound,
                    "the process behind the QMP socket lives in a pid namespace that is not visible here; name it with --pid, or "
                        + "run where the host's processes are visible (hostPID)"
                );
            held = CheckedProcess.TryOpen(pid) ?? throw Missing(pid);
            return Identify(qmp, held);
        }
        catch (Exception e)
        {
            held?.Dispose();
            if (e is IOException and not LinuxException)
                throw Missing(pid);
            throw;
        }
    }

    /// <summary>
    /// Takes hold of the process behind a connection without asking QEMU anything; null: it is not visible here, or has ended.
    /// </summary>
    /// <remarks>An answer from QEMU after this proves that it lives and that the number was its own.</remarks>
    internal static CheckedProcess? Hold(IQmpMonitor qmp, int pid) => CheckedProcess.TryOpen(pid != 0 ? pid : qmp.PeerPid);

    private static RefusedException Missing(int pid) => new(Reasons.ProcessNotFound, $"there is no process {pid} here: check --pid");

    // QEMU answers after we took hold of it, so it lives and the number was its own.
    private static QemuProcess Identify(IQmpMonitor qmp, CheckedProcess held)
    {
        string[] arguments = Encoding.UTF8.GetString(File.ReadAllBytes(held.At("cmdline"))).TrimEnd('\0').Split('\0');
        string type;
        using (var answer = qmp.Execute("qom-get", QmpJson.Object(("path", "/machine"), ("property", "type"))))
            type = answer.Return.GetString();
        const string suffix = "-machine";
        if (type.EndsWith(suffix, StringComparison.Ordinal))
            type = type[..^suffix.Length];
        using var name = qmp.Execute("query-name");
        using var uuid = qmp.Execute("query-uuid");
        return new QemuProcess(
            held.Pid,
            name.Return.TryGetProperty("name", out var n) ? n.GetString() : "",
            uuid.Return.GetProperty("UUID").GetString(),
            type,
            qmp.QemuVersion.ToString(),
            arguments
        )
        {
            Held = held,
        };
    }

    /// <inheritdoc/>
    public void Dispose() => Held.Dispose();
}

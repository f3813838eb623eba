using System.Globalization;
using Bgsnap.Linux;
using Bgsnap.Qemu;
using Bgsnap.Qemu.Libvirt;
using Bgsnap.Qemu.Qmp;
using Bgsnap.Vocabulary;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Engine.Capture;

/// <summary>How a QEMU's monitor is reached.</summary>
public sealed class MonitorAddress
{
    /// <summary>Path of a QMP socket that the agent has for itself.</summary>
    public string? QmpSocket { get; init; }

    /// <summary>URI of libvirt; used with <see cref="Domain"/>.</summary>
    public string? LibvirtUri { get; init; }

    /// <summary>Name or UUID of libvirt's domain.</summary>
    public string? Domain { get; init; }

    /// <summary>
    /// QEMU's process. If nothing else is set, the agent derives the monitor from it. 0: the process that the monitor names.
    /// </summary>
    public int Pid { get; init; }

    /// <summary>The same address as an argument of the agent's commands, for the kinds of address that tasks use.</summary>
    internal string Argument => QmpSocket is { } socket ? "--qmp=" + socket : "--pid=" + Pid.ToString(CultureInfo.InvariantCulture);

    /// <summary>Connects, also to a libvirt that is still starting.</summary>
    /// <param name="patience">How long connecting may take.</param>
    /// <exception cref="QmpException">Neither QEMU nor libvirt answers.</exception>
    internal IQmpMonitor Open(TimeSpan patience)
    {
        for (long end = Environment.TickCount64 + (long)patience.TotalMilliseconds; ; Thread.Sleep(100))
        {
            try
            {
                return Open();
            }
            catch (QmpException) when (QmpSocket is null && Environment.TickCount64 < end)
            {
                // Not up yet.
            }
        }
    }

    /// <summary>Connects.</summary>
    /// <exception cref="QmpException">Neither QEMU nor libvirt answers.</exception>
    /// <exception cref="RefusedException">The process has no monitor that the agent may use, or belongs to another VM.</exception>
    public IQmpMonitor Open() =>
        QmpSocket is not null ? QmpClient.Connect(QmpSocket)
        : LibvirtUri is not null ? LibvirtMonitor.Open(LibvirtSocket.Parse(LibvirtUri), Domain!, Pid)
        : Behind(Pid);

    /// <summary>The process's own QMP socket, if it has one that is not libvirt's; otherwise libvirt.</summary>
    private static IQmpMonitor Behind(int pid)
    {
        ProcessEntry process = Entry(pid);
        string[] words = LibvirtProcess.CommandLine(process);
        // It stays open as long as libvirt's socket may have to be looked up again.
        if (
            OwnSocket(words) is null
            && LibvirtProcess.UuidOf(words) is { } uuid
            && words.Contains("chardev=charmonitor,id=monitor,mode=control")
        )
            return LibvirtMonitor.Open(LibvirtSocket.Behind(process), uuid.ToString(), pid);
        using (process)
        {
            if (OwnSocket(words) is { } path)
                return Connect(process, path);
            throw words.Length == 0
                ? NotFound(pid)
                : new RefusedException(
                    Reasons.NoMonitor,
                    $"process {pid} is not a QEMU with a QMP socket of its own or of libvirt's: start it with -qmp "
                        + "unix:PATH,server=on,wait=off and name that with --qmp"
                );
        }
    }

    private static ProcessEntry Entry(int pid)
    {
        try
        {
            return ProcessEntry.Open(pid);
        }
        catch (LinuxException e) when (e.Errno == Errno.ENOENT)
        {
            throw NotFound(pid);
        }
    }

    private static RefusedException NotFound(int pid) => new(Reasons.ProcessNotFound, "there is no process " + $"{pid} here: check --pid");

    /// <summary>
    /// The path in <c>-qmp unix:PATH,…</c>. libvirt configures its monitor with -mon and -chardev, and no other client may connect to that.
    /// </summary>
    internal static string? OwnSocket(IReadOnlyList<string> words)
    {
        const string unix = "unix:";
        for (int i = 0; i + 1 < words.Count; i++)
        {
            if (words[i] is "-qmp" or "-qmp-pretty" && words[i + 1].StartsWith(unix, StringComparison.Ordinal))
                return words[i + 1][unix.Length..].Split(',')[0];
        }
        return null;
    }

    private static QmpClient Connect(ProcessEntry process, string path)
    {
        try
        {
            // Resolve the path as the process sees it: it may run in a container.
            using SafeFileHandle root = OpenInRoot.RootOf(process);
            using SafeFileHandle socket = OpenInRoot.Open(root, path, directory: false);
            return QmpClient.Connect(OpenInRoot.PathOf(socket));
        }
        catch (LinuxException e)
        {
            throw new QmpException($"the QMP socket {path} of process {process.Pid} cannot be reached: {e.Message}; name it with --qmp");
        }
    }
}

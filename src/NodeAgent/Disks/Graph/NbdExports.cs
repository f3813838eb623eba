using Bgsnap.NodeAgent.Capture;
using Bgsnap.NodeAgent.Linux;
using Bgsnap.NodeAgent.Qmp;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Disks.Graph;

/// <summary>
/// QEMU's NBD server on a socket of ours, and the connections to it. The server starts while the guest runs, before the point in time.
/// </summary>
/// <remarks>
/// Of every connection QEMU gets a duplicate, so that our death closes none: a QEMU 7.2 whose export lives in an iothread aborts when a
/// client goes away (assertion in nbd_blockdev_client_closed()), and its guest with it. They end by block-export-del, from QEMU's main
/// thread. Whoever copies connects when it begins: a connection must not stay in its handshake, which QEMU limits to 10 s from 9.1 on, and
/// in which nbd-server-stop would wait for ever, for an event that nobody looks for meanwhile.
/// </remarks>
internal sealed class NbdExports : IDisposable
{
    private const int Turns = 5;
    private static readonly TimeSpan ExportGone = TimeSpan.FromSeconds(20);
    private readonly IQmpMonitor _qmp;
    private readonly SafeFileHandle _directory;
    private readonly string _folder;
    private readonly string _path;
    private readonly UnixSocket _listener;
    private readonly List<UnixSocket> _connections = [];
    private readonly List<string> _exports = [];
    private int _kept;
    private bool _serverRuns;

    private NbdExports(IQmpMonitor qmp, string directory)
    {
        _qmp = qmp;
        _directory = FileSyscalls.OpenAt(null, directory, FileSyscalls.O_RDONLY | FileSyscalls.O_DIRECTORY);
        // In a folder of our own: whoever could connect could read the disks.
        _folder = $".bgsnap-nbd-{Guid.NewGuid():N}";
        _path = Path.Join(directory, _folder, NbdListener.FileName);
        try
        {
            FileSyscalls.MakeDirectory(
                _directory,
                _folder,
                0x1c0 /* 0700 */
            );
            _listener = UnixSocket.Listen(_path, 64);
        }
        catch
        {
            Unlink();
            _directory.Dispose();
            throw;
        }
    }

    /// <summary>Starts the server.</summary>
    /// <param name="qmp">The monitor.</param>
    /// <param name="directory">Where the socket may have a name for a moment.</param>
    /// <exception cref="CaptureRefusedException">QEMU serves NBD already, for somebody else.</exception>
    internal static NbdExports Start(IQmpMonitor qmp, string directory)
    {
        NbdExports nbd = new(qmp, directory);
        try
        {
            // First the note, by which the next agent knows that the server may be ours, should we die now; whether it is, the listening
            // socket tells.
            QemuMark.Put(qmp, AgentNames.NbdServer);
            TestHooks.After("nbd-noted");
            QemuMark.Keep(qmp, AgentNames.NbdListener, nbd._listener.FileDescriptor);
            TestHooks.After("nbd-listener-kept");
            string address = QmpJson.Object(("type", "fd"), ("data", new QmpJson.Raw(QmpJson.Object(("str", AgentNames.NbdListener)))));
            try
            {
                qmp.Execute("nbd-server-start", QmpJson.Object(("addr", new QmpJson.Raw(address)))).Dispose();
            }
            catch (QmpException e) when (e.ErrorClass is not null)
            {
                _ = QemuMark.Take(qmp, AgentNames.NbdListener);
                _ = QemuMark.Take(qmp, AgentNames.NbdServer);
                throw new CaptureRefusedException(
                    "NbdServerBusy",
                    $"QEMU cannot serve its disks to the agent: {e.Message}; another backup or migration of this VM uses its NBD "
                        + "server: try again when that has ended"
                );
            }
            nbd._serverRuns = true;
            TestHooks.After("nbd-serves");
            return nbd;
        }
        catch
        {
            nbd.Dispose();
            throw;
        }
    }

    /// <summary>Exports a node and prepares connections to it.</summary>
    /// <returns>Sockets for <see cref="Connect"/>; they stay this object's.</returns>
    internal IReadOnlyList<UnixSocket> Export(string id, string node, bool writable, int connections)
    {
        _qmp.Execute(
                "block-export-add",
                QmpJson.Object(("type", "nbd"), ("id", id), ("name", id), ("node-name", node), ("writable", writable))
            )
            .Dispose();
        _exports.Add(id);
        return Sockets(connections);
    }

    /// <summary>Sockets for <see cref="Connect"/>; they stay this object's.</summary>
    internal IReadOnlyList<UnixSocket> Sockets(int connections)
    {
        List<UnixSocket> made = [];
        for (int i = 0; i < connections; i++)
        {
            UnixSocket socket = UnixSocket.Create();
            _connections.Add(socket);
            made.Add(socket);
            QemuMark.Keep(_qmp, AgentNames.Connection(_kept), socket.FileDescriptor);
            _kept++;
        }
        return made;
    }

    /// <summary>
    /// Exports a disk itself, for nobody to read: as long as the export is there, QEMU lets nobody change the disk's size. A filter has
    /// the size that the disk had when it was made, and QEMU aborts when the guest writes behind it.
    /// </summary>
    internal void Guard(int disk, string node)
    {
        string id = AgentNames.Guard(disk);
        _qmp.Execute(
                "block-export-add",
                QmpJson.Object(("type", "nbd"), ("id", id), ("name", id), ("node-name", node), ("writable", false))
            )
            .Dispose();
        _exports.Add(id);
    }

    /// <summary>Exports an image with a dirty bitmap of its, which must not be recording any more.</summary>
    /// <returns>One socket for <see cref="Connect"/>.</returns>
    internal UnixSocket ExportBitmap(string id, string node, string bitmap)
    {
        _qmp.Execute(
                "block-export-add",
                QmpJson.Object(
                    ("type", "nbd"),
                    ("id", id),
                    ("name", id),
                    ("node-name", node),
                    ("writable", false),
                    ("bitmaps", new QmpJson.Raw($"[\"{bitmap}\"]"))
                )
            )
            .Dispose();
        _exports.Add(id);
        return Sockets(1)[0];
    }

    /// <summary>Connects; called by the thread that copies, which then negotiates.</summary>
    internal void Connect(IReadOnlyList<UnixSocket> sockets)
    {
        foreach (UnixSocket s in sockets)
            s.Connect(_path);
    }

    private void Unlink()
    {
        _ = FileSyscalls.TryUnlink(_directory, $"{_folder}/{NbdListener.FileName}", 0);
        _ = FileSyscalls.TryUnlink(_directory, _folder, FileSyscalls.AT_REMOVEDIR);
    }

    /// <summary>Ends exports and server, then the connections. Whoever reads from one gets the end of the stream.</summary>
    internal void TakeDown(Undo undo)
    {
        foreach (string id in _exports.ToArray())
            undo.Try(
                () => _qmp.Execute("block-export-del", QmpJson.Object(("id", id), ("mode", "hard"))).Dispose(),
                () => _exports.Remove(id)
            );
        // Not before: a client that closes in front of its export is what QEMU 7.2 dies of.
        if (!undo.Try(() => WaitUntilGone(_qmp)))
            return;
        // No export, no client: what is left of them is in its handshake, and ends now.
        foreach (UnixSocket s in _connections)
            s.ShutDown();
        undo.Try(() => LetMainLoopTurn(_qmp));
        if (_serverRuns)
            undo.Try(() => StopServer(_qmp), () => _serverRuns = false);
        for (; _kept > 0 && undo.Try(() => QemuMark.Take(_qmp, AgentNames.Connection(_kept - 1))); _kept--) { }
        if (!_serverRuns)
            undo.Try(() => QemuMark.Take(_qmp, AgentNames.NbdServer));
    }

    /// <summary>Ends the server; one that somebody else has ended is what was wanted.</summary>
    internal static void StopServer(IQmpMonitor qmp)
    {
        try
        {
            qmp.Execute("nbd-server-stop").Dispose();
        }
        catch (QmpException e) when (e.ErrorClass is not null)
        {
            // It does not run.
        }
    }

    /// <summary>Waits until QEMU has no export of ours any more: only then its nodes can be removed.</summary>
    internal static void WaitUntilGone(IQmpMonitor qmp)
    {
        for (long end = Environment.TickCount64 + (long)ExportGone.TotalMilliseconds; ; Thread.Sleep(2))
        {
            using QmpAnswer answer = qmp.Execute("query-block-exports");
            if (!answer.Return.EnumerateArray().Any(e => AgentNames.IsOurs(e.GetProperty("id").GetString())))
                return;
            if (Environment.TickCount64 > end)
                throw new QmpException($"QEMU did not end the agent's exports within {ExportGone.TotalSeconds:0} s");
        }
    }

    /// <summary>Gives QEMU's main loop the occasion to see what has ended.</summary>
    internal static void LetMainLoopTurn(IQmpMonitor qmp)
    {
        for (int i = 0; i < Turns; i++)
        {
            Thread.Sleep(1);
            qmp.Execute("query-status").Dispose();
        }
    }

    /// <summary>Closes our ends; <see cref="TakeDown"/> comes first.</summary>
    public void Dispose()
    {
        if (_directory.IsClosed)
            return;
        Unlink();
        _directory.Dispose();
        foreach (UnixSocket s in _connections)
            s.Dispose();
        _listener.Dispose();
    }
}

using Bgsnap.Engine.Capture;
using Bgsnap.Linux;
using Bgsnap.Qemu;
using Bgsnap.Qemu.Qmp;
using Bgsnap.Vocabulary;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Engine.Disks.Graph;

/// <summary>
/// QEMU's NBD server on the agent's socket, and the connections to it. The server starts while the guest runs, before the point in time.
/// </summary>
/// <remarks>
/// QEMU gets a duplicate of every connection, so that the agent's death closes none of them: a QEMU 7.2 whose export is in an iothread
/// aborts when a client goes away (assertion in nbd_blockdev_client_closed()), and its guest with it. block-export-del ends the connections
/// from QEMU's main thread. A copying thread connects only when it begins: a connection must not stay in its handshake. QEMU limits the
/// handshake to 10 s from 9.1 on, and during it nbd-server-stop would wait for ever, for an event that no thread looks for meanwhile.
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
        // In a private folder: any process that could connect could read the disks.
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
    /// <exception cref="RefusedException">QEMU already serves NBD for another client.</exception>
    internal static NbdExports Start(IQmpMonitor qmp, string directory)
    {
        NbdExports nbd = new(qmp, directory);
        try
        {
            // Leave the note first: if we die now, it tells the next agent that the server may be ours. The listening socket tells whether
            // it is.
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
                throw new RefusedException(
                    Reasons.NbdServerBusy,
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
    /// <returns>Sockets for <see cref="Connect"/>; this object owns them.</returns>
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

    /// <summary>Sockets for <see cref="Connect"/>; this object owns them.</summary>
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
    /// Exports a disk itself, without a reader: as long as the export exists, QEMU lets no client change the disk's size. A filter has the
    /// size that the disk had when the filter was made, and QEMU aborts when the guest writes beyond it.
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

    /// <summary>Exports an image with one of its dirty bitmaps, which must no longer be recording.</summary>
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

    /// <summary>Connects; called by the copying thread, which then negotiates.</summary>
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

    /// <summary>
    /// Ends the exports and the server, then the connections. A thread that reads from a connection gets the end of the stream.
    /// </summary>
    internal void TakeDown(Undo undo)
    {
        foreach (string id in _exports.ToArray())
            undo.Try(
                () => _qmp.Execute("block-export-del", QmpJson.Object(("id", id), ("mode", "hard"))).Dispose(),
                () => _exports.Remove(id)
            );
        // Not earlier: QEMU 7.2 aborts if a client closes before its export is gone.
        if (!undo.Try(() => WaitUntilGone(_qmp)))
            return;
        // Without an export there is no client: the remaining connections are in their handshake, and end now.
        foreach (UnixSocket s in _connections)
            s.ShutDown();
        undo.Try(() => LetMainLoopTurn(_qmp));
        if (_serverRuns)
            undo.Try(() => StopServer(_qmp), () => _serverRuns = false);
        for (; _kept > 0 && undo.Try(() => QemuMark.Take(_qmp, AgentNames.Connection(_kept - 1))); _kept--) { }
        if (!_serverRuns)
            undo.Try(() => QemuMark.Take(_qmp, AgentNames.NbdServer));
    }

    /// <summary>Ends the server; if another client has already ended it, that is fine.</summary>
    internal static void StopServer(IQmpMonitor qmp)
    {
        try
        {
            qmp.Execute("nbd-server-stop").Dispose();
        }
        catch (QmpException e) when (e.ErrorClass is not null)
        {
            // The server does not run.
        }
    }

    /// <summary>Waits until QEMU has none of our exports any more: only then can its nodes be removed.</summary>
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

    /// <summary>Gives QEMU's main loop the chance to notice what has ended.</summary>
    internal static void LetMainLoopTurn(IQmpMonitor qmp)
    {
        for (int i = 0; i < Turns; i++)
        {
            Thread.Sleep(1);
            qmp.Execute("query-status").Dispose();
        }
    }

    /// <summary>Closes the agent's ends; <see cref="TakeDown"/> comes first.</summary>
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

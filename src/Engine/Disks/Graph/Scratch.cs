using System.Globalization;
using Bgsnap.Engine.Capture;
using Bgsnap.Linux;
using Bgsnap.Qemu.Qmp;
using Bgsnap.SnapshotFormat.Qcow2;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Engine.Disks.Graph;

/// <summary>One disk's scratch: an empty qcow2 in an unnamed file of the agent's, known to QEMU as a block node.</summary>
internal sealed class Scratch : IDisposable
{
    private readonly IQmpMonitor _qmp;
    private readonly SafeFileHandle _file;
    private readonly int _fdset;
    private readonly string _node;
    private bool _nodeThere;
    private bool _removed;

    /// <summary>Creates the file and the node.</summary>
    /// <param name="qmp">The monitor.</param>
    /// <param name="node">Name of the node.</param>
    /// <param name="note">The disk that it is for.</param>
    /// <param name="directory">The directory of the file.</param>
    /// <param name="virtualSize">Bytes of the disk.</param>
    /// <param name="length">Bytes that the scratch may take.</param>
    /// <param name="bounded">Whether QEMU itself must not write past <paramref name="length"/>: it gets an error there.</param>
    internal Scratch(IQmpMonitor qmp, string node, ScratchNote note, string directory, long virtualSize, long length, bool bounded)
    {
        (_qmp, _node, Length) = (qmp, node, length);
        _file = ScratchSpace.CreateFile(directory);
        try
        {
            Qcow2Writer.WriteEmpty(_file, virtualSize, $"scratch in {directory}");
            if (bounded)
                FileSyscalls.Truncate(_file, length, $"scratch in {directory}");
            using QmpAnswer added = qmp.Execute("add-fd", QmpJson.Object(("opaque", note.Text)), (int)_file.DangerousGetHandle());
            _fdset = added.Return.GetProperty("fdset-id").GetInt32();
        }
        catch
        {
            _file.Dispose();
            throw;
        }
        try
        {
            // The guest's flushes are for its disk; the scratch is worthless after a crash.
            QmpJson.Raw noFlush = new(QmpJson.Object(("no-flush", true)));
            string file = QmpJson.Object(
                ("driver", "file"),
                ("filename", NameOf(_fdset, bounded)),
                ("locking", "off"),
                ("discard", "unmap"),
                ("cache", noFlush)
            );
            // raw with a fixed size: what qcow2 would write beyond its end fails.
            if (bounded)
                file = QmpJson.Object(("driver", "raw"), ("size", length), ("discard", "unmap"), ("file", new QmpJson.Raw(file)));
            List<(string, object)> options =
            [
                ("driver", "qcow2"),
                ("node-name", node),
                ("discard", "unmap"),
                ("cache", noFlush),
                ("file", new QmpJson.Raw(file)),
            ];
            qmp.Execute("blockdev-add", QmpJson.Object([.. options])).Dispose();
            _nodeThere = true;
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>
    /// The file name by which QEMU opens the scratch. Other clients see an overlay as the disk, and QEMU would write its name into their
    /// external snapshot: the name is so long that qcow2 refuses it (1023 bytes).
    /// </summary>
    private static string NameOf(int fdset, bool bounded) =>
        "/dev/fdset/" + fdset.ToString(bounded ? "D" : "D1023", CultureInfo.InvariantCulture);

    /// <summary>Bytes that the scratch may take.</summary>
    internal long Length { get; }

    /// <summary>Bytes that the scratch takes on its volume now.</summary>
    internal long Used => FileSyscalls.Status(_file, "scratch").AllocatedBytes;

    /// <summary>Removes the node, then the descriptor. Throws if the node is in use.</summary>
    internal void Remove()
    {
        if (_removed)
            return;
        if (_nodeThere)
            _qmp.Execute("blockdev-del", QmpJson.Object(("node-name", _node))).Dispose();
        _nodeThere = false;
        _qmp.Execute("remove-fd", QmpJson.Object(("fdset-id", _fdset))).Dispose();
        _removed = true;
        _file.Dispose();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        try
        {
            Remove();
        }
        catch (QmpException)
        {
            // The node is in use, or QEMU is gone: the next agent's sweep removes what is left.
        }
        _file.Dispose();
    }
}

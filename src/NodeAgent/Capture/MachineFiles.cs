using System.Text;
using System.Text.Json;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.NodeAgent.Qmp;
using Bgsnap.NodeAgent.Store;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Capture;

/// <summary>
/// What a snapshot keeps so that its machine can be recreated: libvirt's description of it, and the Kubernetes objects behind that.
/// </summary>
internal static class MachineFiles
{
    /// <summary>Writes the files that apply, while the guest runs and before anything of it is held.</summary>
    /// <exception cref="CaptureRefusedException">libvirt's description is too long to keep.</exception>
    internal static void Write(SnapshotDirectoryWriter directory, IQmpMonitor qmp, CaptureOptions options)
    {
        if (qmp.DomainXml() is { } xml)
            Write(directory, SnapshotFormat.DomainXmlFileName, xml);
        if (options.Objects is { } objects)
            Write(directory, SnapshotFormat.ObjectsFileName, objects);
    }

    /// <summary>Reads the objects to keep.</summary>
    /// <exception cref="CaptureRefusedException">They are not JSON, or too long.</exception>
    /// <exception cref="IOException">The file cannot be read.</exception>
    internal static string ReadObjects(string path)
    {
        string text = File.ReadAllText(path);
        try
        {
            JsonDocument.Parse(text).Dispose();
            return text;
        }
        catch (JsonException e)
        {
            throw new CaptureRefusedException(Reasons.ObjectsInvalid, $"--objects {path} is not valid JSON: {e.Message}");
        }
    }

    private static void Write(SnapshotDirectoryWriter directory, string name, string text)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(text);
        if (bytes.Length > SnapshotFormat.MaxMachineFileSize)
            throw new CaptureRefusedException(
                Reasons.MachineFileTooLong,
                $"{name} would have {bytes.Length} bytes, and a snapshot keeps at most {SnapshotFormat.MaxMachineFileSize}"
            );
        using SafeFileHandle file = directory.CreateFile(name);
        RandomAccess.Write(file, bytes, 0);
    }
}

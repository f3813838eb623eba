using System.Text;
using System.Text.Json;
using Bgsnap.Qemu;
using Bgsnap.Qemu.Qmp;
using Bgsnap.SnapshotFormat.Store;
using Bgsnap.Vocabulary;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Engine.Capture;

/// <summary>
/// What a snapshot keeps so that its machine can be recreated: libvirt's description of it, and the Kubernetes objects behind that.
/// </summary>
internal static class MachineFiles
{
    /// <summary>Writes the files that apply, while the guest runs and before anything of it is held.</summary>
    /// <exception cref="RefusedException">libvirt's description is too long to keep.</exception>
    internal static void Write(SnapshotDirectoryWriter directory, IQmpMonitor qmp, CaptureOptions options)
    {
        if (qmp.DomainXml() is { } xml)
            Write(directory, FormatV1.DomainXmlFileName, xml);
        if (options.Objects is { } objects)
            Write(directory, FormatV1.ObjectsFileName, objects);
    }

    /// <summary>Reads the objects to keep.</summary>
    /// <exception cref="RefusedException">They are not JSON, or too long.</exception>
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
            throw new RefusedException(Reasons.ObjectsInvalid, $"--objects {path} is not valid JSON: {e.Message}");
        }
    }

    private static void Write(SnapshotDirectoryWriter directory, string name, string text)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(text);
        if (bytes.Length > FormatV1.MaxMachineFileSize)
            throw new RefusedException(
                Reasons.MachineFileTooLong,
                $"{name} would have {bytes.Length} bytes, and a snapshot keeps at most {FormatV1.MaxMachineFileSize}"
            );
        using SafeFileHandle file = directory.CreateFile(name);
        RandomAccess.Write(file, bytes, 0);
    }
}

using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Linux;
using Bgsnap.SnapshotFormat.Store;
using Bgsnap.Vocabulary;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Tasks;

/// <summary>Opens or creates the image that a disk is written to, in a container that mounts its claim.</summary>
/// <remarks>
/// An earlier owner of the claim put there what lies on it. A link there may lead to another claim of the same carrier, never out of the
/// carrier; the image itself may not be a link. A device node on a claim is a way to any disk of the host, so only device nodes that the
/// container runtime created count, which are on the container's own mounts.
/// </remarks>
internal static class CarrierImage
{
    private const uint DefaultMode = 0x1b0; // 0660

    /// <param name="root">The container's root.</param>
    /// <param name="path">Absolute path in it.</param>
    /// <param name="before">Owner and mode of the captured image, for a new file; null: not known.</param>
    /// <returns>The image, open for reading and writing.</returns>
    /// <exception cref="TaskFailure">There can be no image at that path.</exception>
    /// <exception cref="LinuxException">It cannot be opened.</exception>
    internal static SafeFileHandle Open(SafeFileHandle root, string path, ManifestImage? before)
    {
        int slash = path.LastIndexOf('/');
        string name = path[(slash + 1)..];
        if (slash < 0 || name is "" or "." or "..")
            throw new TaskFailure(Reasons.BadTask, $"'{path}' is not the path of an image");
        using SafeFileHandle folder = OpenFolder(root, path[..(slash + 1)]);
        return OpenInRoot.TryMake(folder, name, DefaultMode) is { } made
            ? GiveTo(made, path, before)
            : OpenExisting(root, folder, name, path);
    }

    private static SafeFileHandle OpenExisting(SafeFileHandle root, SafeFileHandle folder, string name, string path)
    {
        using SafeFileHandle there = OpenInRoot.OpenWithoutLinks(folder, name);
        FileSyscalls.FileStatus status = FileSyscalls.Status(there, path);
        if (!status.IsRegular && !status.IsBlockDevice)
            throw new TaskFailure(Reasons.BadTarget, $"{path} is neither a file nor a block device");
        if (status.IsBlockDevice && !IsOfRuntime(root, status))
            throw new TaskFailure(Reasons.BadTarget, $"{path} is a device node on the claim itself: remove it there");
        return OpenInRoot.ForWriting(there, path);
    }

    private static SafeFileHandle OpenFolder(SafeFileHandle root, string folder)
    {
        try
        {
            return OpenInRoot.Open(root, folder, directory: true);
        }
        catch (LinuxException e)
        {
            throw new TaskFailure(Reasons.BadTarget, $"the carrier has no directory {folder}: {e.Message}");
        }
    }

    private static bool IsOfRuntime(SafeFileHandle root, in FileSyscalls.FileStatus device)
    {
        if (device.MountId == FileSyscalls.Status(root, "/").MountId)
            return true;
        using SafeFileHandle devices = OpenInRoot.Open(root, "/dev", directory: true);
        return device.MountId == FileSyscalls.Status(devices, "/dev").MountId;
    }

    // Mode before owner: once the file has another owner, its mode could no longer be changed. Mode bits beyond rwx are not restored.
    private static SafeFileHandle GiveTo(SafeFileHandle image, string path, ManifestImage? before)
    {
        try
        {
            if (before is null)
                return image;
            FileSyscalls.SetMode(image, before.Mode is { } text && TryOctal(text) is { } octal ? octal & 0x1ff : DefaultMode, path);
            FileSyscalls.SetOwner(image, before.Uid, before.Gid, path);
            return image;
        }
        catch
        {
            image.Dispose();
            throw;
        }
    }

    private static uint? TryOctal(string text)
    {
        uint value = 0;
        foreach (char c in text)
        {
            if (c is < '0' or > '7' || value > 0xfff)
                return null;
            value = value * 8 + (uint)(c - '0');
        }
        return value;
    }
}

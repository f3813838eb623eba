using System.Text;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Linux;
using Bgsnap.Vocabulary;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Tasks;

/// <summary>
/// Passes a text to the capturing process in a file that no longer has a name: the text is too long for a command line, and nobody else may
/// read it.
/// </summary>
internal static class UnnamedTextFile
{
    private const uint OwnersOnly =
        0x180 /* 0600 */
    ;

    /// <summary>Writes the text to such a file.</summary>
    /// <param name="text">The text.</param>
    /// <param name="directory">A directory with room for it; null: the directory of temporary files.</param>
    internal static SafeFileHandle Open(string text, string? directory)
    {
        string path = Path.Join(directory ?? Path.GetTempPath(), $".agent-passed-{Guid.NewGuid():N}");
        try
        {
            SafeFileHandle file = FileSyscalls.OpenAt(
                null,
                path,
                FileSyscalls.O_RDWR | FileSyscalls.O_CREAT | FileSyscalls.O_EXCL | FileSyscalls.O_NOFOLLOW,
                OwnersOnly
            );
            RandomAccess.Write(file, Encoding.UTF8.GetBytes(text), 0);
            return file;
        }
        catch (Exception e) when (e is LinuxException or IOException)
        {
            throw new TaskFailure(Reasons.ScratchFull, $"the virtual machine's objects cannot be passed to the capture: {e.Message}");
        }
        finally
        {
            File.Delete(path);
        }
    }
}

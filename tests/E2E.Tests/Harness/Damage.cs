namespace Bgsnap.E2E.Tests.Harness;

/// <summary>Damages a file; a second call undoes the first.</summary>
public static class Damage
{
    /// <summary>Flips one bit in the middle of the file.</summary>
    public static void Flip(string path)
    {
        using var file = File.Open(path, FileMode.Open, FileAccess.ReadWrite);
        file.Position = file.Length / 2;
        var old = file.ReadByte();
        file.Position--;
        file.WriteByte((byte)(old ^ 1));
    }
}

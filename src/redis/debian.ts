/** Debian's redis-server and the libraries it misses here, downloaded and unpacked without installing anything. */
import fs from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { RedisBinary } from './binary.ts';
import { run } from './run.ts';

const binaryPath = 'usr/bin/redis-server';

/** The binary in a folder unpacked before, or null. */
export async function unpackedBinary(folder: string): Promise<RedisBinary | null> {
  const path = join(folder, binaryPath);
  const isThere = await fs.access(path).then(
    () => true,
    () => false,
  );
  if (!isThere) return null;
  const libraries = await libraryFolders(folder);
  return { path, env: { LD_LIBRARY_PATH: libraries.join(':') }, source: `Debian’s redis-server in ${folder}` };
}

/** Fills the folder; returns the binary, or what went wrong in words. */
export async function fetchDebianRedis(folder: string): Promise<RedisBinary | string> {
  if ((await run('apt-get', ['--version'])).code !== 0) return 'there is no apt-get here';
  if ((await run('dpkg-deb', ['--version'])).code !== 0) return 'there is no dpkg-deb here';
  await fs.mkdir(dirname(folder), { recursive: true });
  const work = await fs.mkdtemp(`${folder}-`);
  try {
    const root = join(work, 'root');
    const apt = createApt(work);
    const failure = (await apt.fetch(['redis-server', 'redis-tools'], root)) ?? (await addLibraries(apt, root));
    if (failure !== null) return failure;
    await fs.rm(folder, { recursive: true, force: true });
    await fs.rename(root, folder);
    return (await unpackedBinary(folder)) ?? `the package has no ${binaryPath}`;
  } finally {
    await fs.rm(work, { recursive: true, force: true });
  }
}

/** Downloads what the binary needs and this machine lacks: its package's dependencies, and theirs. */
async function addLibraries(apt: Apt, root: string): Promise<string | null> {
  const seen = new Set<string>(leftOut);
  let packages = ['redis-tools'];
  for (let depth = 0; depth < 3; depth++) {
    if ((await missingLibraries(root)).length === 0) return null;
    const wanted = (await Promise.all(packages.map((name) => apt.dependencies(name)))).flat();
    packages = [...new Set(wanted)].filter((name) => !seen.has(name));
    for (const name of packages) seen.add(name);
    if (packages.length === 0) break;
    const failure = await apt.fetch(packages, root);
    if (failure !== null) return failure;
  }
  const missing = await missingLibraries(root);
  return missing.length === 0 ? null : `the package needs ${missing.join(', ')}`;
}

/** The C library is the machine's own or nothing runs; the others are no libraries. */
const leftOut = ['libc6', 'adduser', 'redis-server', 'redis-tools'];

async function missingLibraries(root: string): Promise<string[]> {
  const env = { LD_LIBRARY_PATH: (await libraryFolders(root)).join(':') };
  const { stdout } = await run('ldd', [join(root, binaryPath)], { env });
  return [...stdout.matchAll(/^\s*(\S+) => not found/gm)].map(([, name]) => name!);
}

async function libraryFolders(root: string): Promise<string[]> {
  const names = await fs.readdir(root, { recursive: true });
  return [...new Set(names.filter((name) => /\.so(\.|$)/.test(name)).map((name) => join(root, dirname(name))))].sort();
}

type Apt = ReturnType<typeof createApt>;

/** apt-get with this machine's package lists, or with lists of its own in the work folder when those are missing. */
function createApt(work: string) {
  let options = ['-o', 'APT::Sandbox::User=root'];
  let hasOwnLists = false;

  async function updateOwnLists(): Promise<string | null> {
    hasOwnLists = true;
    const folders = { 'Dir::State::lists': join(work, 'lists'), 'Dir::Cache': join(work, 'cache') };
    for (const [name, folder] of Object.entries(folders)) {
      await fs.mkdir(join(folder, 'partial'), { recursive: true });
      options = [...options, '-o', `${name}=${folder}`];
    }
    const { code, stderr } = await run('apt-get', [...options, 'update'], { milliseconds: 180_000 });
    return code === 0 ? null : `apt-get update: ${lastLine(stderr)}`;
  }

  return {
    /** Unpacks packages into `root`; null, or what went wrong. */
    async fetch(packages: string[], root: string): Promise<string | null> {
      const cwd = await fs.mkdtemp(join(work, 'packages-'));
      let { code, stderr } = await run('apt-get', [...options, 'download', ...packages], { cwd });
      if (code !== 0 && !hasOwnLists) {
        const failure = await updateOwnLists();
        if (failure !== null) return failure;
        ({ code, stderr } = await run('apt-get', [...options, 'download', ...packages], { cwd }));
      }
      if (code !== 0) return `apt-get download: ${lastLine(stderr)}`;
      for (const name of (await fs.readdir(cwd)).filter((file) => file.endsWith('.deb'))) {
        const unpacked = await run('dpkg-deb', ['-x', join(cwd, name), root]);
        if (unpacked.code !== 0) return `dpkg-deb: ${lastLine(unpacked.stderr)}`;
      }
      return null;
    },
    async dependencies(name: string): Promise<string[]> {
      const { stdout } = await run('apt-cache', [...options, 'depends', name]);
      return [...stdout.matchAll(/^\s*(?:Pre)?Depends: ([a-z0-9][a-z0-9+.-]*)$/gm)].map(([, found]) => found!);
    },
  };
}

function lastLine(text: string): string {
  return text.trim().split('\n').at(-1) || 'no reason given';
}

